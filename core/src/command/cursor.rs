//! The cursor of a list that spans workers.

/// The end of a page of members: a worker and a join number.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Cursor {
    /// The worker on which the next page begins.
    pub worker: u16,
    /// The join number after which the next page begins.
    pub after: u64,
}

impl Cursor {
    /// The textual form, `worker.number`.
    pub fn text(&self) -> String {
        format!("{}.{}", self.worker, self.after)
    }

    /// Parses the textual form.
    pub fn parse(text: &str) -> Option<Self> {
        let (worker, after) = text.split_once('.')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        (digits(worker) && digits(after)).then_some(())?;
        Some(Self { worker: worker.parse().ok()?, after: after.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_survives_its_textual_form_and_refuses_others() {
        let cursor = Cursor { worker: 3, after: 77 };
        assert_eq!(Cursor::parse(&cursor.text()), Some(cursor));
        for text in ["", ".", "3", "3.", ".7", "3.x", "-1.2", "+1.2", "99999.1", "1.99999999999999999999"] {
            assert_eq!(Cursor::parse(text), None, "{text:?}");
        }
    }
}
