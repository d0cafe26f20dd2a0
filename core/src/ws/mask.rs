//! XOR with a frame's masking key (RFC 6455, 5.3).
//!
//! The key is repeated over the payload, so a payload that arrives in pieces needs the *phase*: how many
//! payload bytes came before, modulo 4. Masking and unmasking are the same operation.

/// Bytes per step: one 16-byte vector, which every x86-64 and AArch64 has, as two words.
const BLOCK: usize = 16;

/// The high bit of each byte, which no ASCII has.
const HIGH: u64 = (u64::MAX / 255) << 7;

/// XORs `payload` with `key`, whose byte `phase % 4` belongs to the first byte of `payload`. Returns whether
/// what came of it is all ASCII, and so UTF-8 without a second look: unsafe code relies on it.
///
/// The blocks are plain arrays, so the compiler turns the loop into vector instructions for whatever target
/// it builds for; alignment of `payload` does not matter. The last block overlaps the one before it: no byte
/// is looked at alone but in a payload that is shorter than a block.
#[inline]
pub fn apply_mask(payload: &mut [u8], key: [u8; 4], phase: usize) -> bool {
    // Rotated as a number: as an array it would go through memory, which costs a short payload more than the
    // masking itself.
    let key = u32::from_le_bytes(key).rotate_right(8 * (phase % 4) as u32);
    if key == 0 {
        return payload.is_ascii();
    }
    let Some(&(mut last)) = payload.last_chunk() else { return mask_short(payload, key) };
    let mut seen = [0; 2];
    for block in payload.as_chunks_mut().0 {
        mask_block(block, key, &mut seen);
    }
    mask_block(&mut last, key.rotate_right(8 * (payload.len() % 4) as u32), &mut seen);
    if let Some(end) = payload.last_chunk_mut() {
        *end = last;
    }
    (seen[0] | seen[1]) & HIGH == 0
}

#[inline(always)]
fn mask_block(block: &mut [u8; BLOCK], key: u32, seen: &mut [u64; 2]) {
    let word = u64::from(key) << 32 | u64::from(key);
    for (part, seen) in block.as_chunks_mut::<8>().0.iter_mut().zip(seen) {
        let plain = u64::from_le_bytes(*part) ^ word;
        *part = plain.to_le_bytes();
        *seen |= plain;
    }
}

/// The same for less than a block.
#[inline]
fn mask_short(payload: &mut [u8], key: u32) -> bool {
    let (mut rest, mut seen) = (key, 0);
    for byte in payload {
        *byte ^= rest as u8;
        seen |= *byte;
        rest = rest.rotate_right(8);
    }
    seen.is_ascii()
}

/// The definition of masking, byte by byte: what [`apply_mask`] is tested and measured against.
#[inline]
pub fn apply_mask_plain(payload: &mut [u8], key: [u8; 4], phase: usize) {
    for (index, byte) in payload.iter_mut().enumerate() {
        *byte ^= key[(phase + index) % 4];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [0x6d, 0xb6, 0x02, 0x80];

    #[test]
    fn wide_mask_equals_plain_mask_at_every_length_alignment_and_phase() {
        let source: Vec<u8> = (0..256 + 8).map(|i| (i * 7) as u8).collect();
        for len in 0..=256 {
            for offset in 0..8 {
                for phase in 0..8 {
                    let mut wide = source.clone();
                    let mut plain = source.clone();
                    apply_mask(&mut wide[offset..offset + len], KEY, phase);
                    apply_mask_plain(&mut plain[offset..offset + len], KEY, phase);
                    assert_eq!(wide, plain, "len {len} offset {offset} phase {phase}");
                }
            }
        }
    }

    #[test]
    fn one_byte_that_is_not_ascii_is_seen_wherever_it_stands() {
        for key in [KEY, [0; 4]] {
            for len in 0..=100 {
                let mut text = vec![b'~'; len];
                apply_mask(&mut text, key, 0);
                assert!(apply_mask(&mut text.clone(), key, 0), "len {len}");
                for at in 0..len {
                    let mut text = text.clone();
                    text[at] ^= 0x80;
                    assert!(!apply_mask(&mut text, key, 0), "len {len} at {at}");
                }
            }
        }
    }

    #[test]
    fn masking_in_pieces_equals_masking_at_once() {
        let source = [0x55_u8; 100];
        let mut whole = source;
        apply_mask(&mut whole, KEY, 0);
        for cut in 0..=100 {
            let mut pieces = source;
            apply_mask(&mut pieces[..cut], KEY, 0);
            apply_mask(&mut pieces[cut..], KEY, cut);
            assert_eq!(pieces, whole, "cut at {cut}");
        }
    }
}
