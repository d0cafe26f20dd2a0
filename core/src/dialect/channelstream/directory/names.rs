//! A sorted list of the channels of a connection. Most connections have few channels, for which a list takes
//! a fifth of a tree's memory.

#[derive(Clone, Default, Debug)]
pub(super) struct Names(Vec<Box<str>>);

impl Names {
    /// Adds a name. Returns whether it is new.
    pub(super) fn insert(&mut self, name: &str) -> bool {
        let Err(at) = self.find(name) else { return false };
        self.0.reserve_exact(1 + self.0.len() / 4);
        self.0.insert(at, name.into());
        true
    }

    /// Removes a name. Returns whether it was there.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let found = self.find(name);
        if let Ok(at) = found {
            self.0.remove(at);
        }
        found.is_ok()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Box<str>> {
        self.0.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|own| (**own).cmp(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_each_is_there_once() {
        let mut names = Names::default();
        assert!(["b", "a", "c"].into_iter().all(|name| names.insert(name)) && !names.insert("b"));
        assert!(names.iter().map(|name| &**name).eq(["a", "b", "c"]));
        assert!(names.remove("b") && !names.remove("b"));
        assert_eq!((names.len(), names.0.capacity() < 8), (2, true));
    }
}
