//! JSON arrays outwards.

use bytes::BufMut;

/// Appends an array of `items`, each as `write` appends it.
pub fn write_array<Out: BufMut, Item>(
    out: &mut Out,
    items: impl IntoIterator<Item = Item>,
    mut write: impl FnMut(&mut Out, Item),
) {
    out.put_u8(b'[');
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        write(out, item);
    }
    out.put_u8(b']');
}
