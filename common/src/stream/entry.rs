//! What one stream entry says: a parcel and up to 25 of its jobs with their epochs.
//!
//! Fields: `p`, the parcel's number in decimal, and `j`, packed: a version byte, the count, then per job the distance of its
//! id from the one before (the first one whole, 16 bytes) and its epoch, both as LEB128. Ids of one parcel are neighbours, so
//! a job costs two to four bytes. An entry that does not decode is acknowledged and dropped: Postgres has the jobs anyway.

use uuid::Uuid;

use crate::{id::JobId, limits::CHUNK_JOBS_MAX};

/// Field with the parcel's number.
pub const PARCEL_FIELD: &str = "p";
/// Field with the packed jobs.
pub const JOBS_FIELD: &str = "j";
/// First byte of the packed form.
const VERSION: u8 = 1;
/// A u128 has at most 19 groups of 7 bits.
const LEB128_BYTES_MAX: u32 = 19;

/// A decoded hint: please ask Postgres about these jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// The parcel that lists the jobs.
    pub parcel: i64,
    /// Ids and epochs.
    pub jobs: Vec<(JobId, i32)>,
}

/// Packs up to 25 jobs whose ids rise.
pub fn pack(jobs: &[(JobId, i32)]) -> Vec<u8> {
    debug_assert!(jobs.len() <= CHUNK_JOBS_MAX);
    let mut out = Vec::with_capacity(18 + jobs.len() * 4);
    out.push(VERSION);
    out.push(jobs.len() as u8);
    let mut before: Option<u128> = None;
    for (id, epoch) in jobs {
        let id = id.as_u128();
        match before {
            None => out.extend_from_slice(&id.to_be_bytes()),
            Some(last) => put(&mut out, id.wrapping_sub(last)),
        }
        put(&mut out, u128::from(epoch.unsigned_abs()));
        before = Some(id);
    }
    out
}

/// Reads an entry's fields, whose names and values may be any bytes. `None`: no entry of ours.
pub fn decode<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Option<Hint> {
    let (mut parcel, mut jobs) = (None, None);
    for (name, value) in fields {
        match name {
            name if name == PARCEL_FIELD.as_bytes() => parcel = Some(value),
            name if name == JOBS_FIELD.as_bytes() => jobs = Some(value),
            _ => {}
        }
    }
    let parcel = std::str::from_utf8(parcel?).ok()?.parse().ok()?;
    Some(Hint {
        parcel,
        jobs: unpack(jobs?)?,
    })
}

fn unpack(bytes: &[u8]) -> Option<Vec<(JobId, i32)>> {
    let (&[version, count], mut rest) = bytes.split_first_chunk::<2>()?;
    if version != VERSION || usize::from(count) > CHUNK_JOBS_MAX || count == 0 {
        return None;
    }
    let (first, tail) = rest.split_first_chunk::<16>()?;
    rest = tail;
    let mut id = u128::from_be_bytes(*first);
    let mut jobs = Vec::with_capacity(usize::from(count));
    for nth in 0..count {
        if nth > 0 {
            id = id.wrapping_add(take(&mut rest)?);
        }
        jobs.push((Uuid::from_u128(id), i32::try_from(take(&mut rest)?).ok()?));
    }
    rest.is_empty().then_some(jobs)
}

fn put(out: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u128> {
    let mut value = 0u128;
    for group in 0..LEB128_BYTES_MAX {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u128::from(byte & 0x7f).checked_shl(group * 7)?;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::id::new_job_ids;

    #[test]
    fn jobs_survive_packing_and_neighbours_cost_two_bytes() {
        let jobs: Vec<_> = new_job_ids(25).map(|id| (id, 3)).collect();
        let packed = pack(&jobs);
        assert_eq!(unpack(&packed).unwrap(), jobs);
        assert_eq!(packed.len(), 2 + 16 + 1 + 24 * 2);
    }

    #[test]
    fn distant_and_unsorted_ids_survive_packing() {
        let jobs = vec![
            (Uuid::max(), 7),
            (Uuid::nil(), i32::MAX),
            (Uuid::from_u128(1 << 90), 0),
        ];
        assert_eq!(unpack(&pack(&jobs)).unwrap(), jobs);
    }

    #[test]
    fn garbage_is_no_hint() {
        // F12
        let good = pack(&[(Uuid::max(), 1), (Uuid::nil(), 1)]);
        for end in 0..good.len() {
            assert_eq!(unpack(&good[..end]), None, "cut at {end}");
        }
        let mut long = good.clone();
        long.push(0);
        assert_eq!(unpack(&long), None);
        assert_eq!(unpack(&[1, 200, 0, 0]), None);
        assert_eq!(unpack(&[0xff; 64]), None);
        assert_eq!(
            decode([(&b"p"[..], &b"x"[..]), (b"j", &good)].into_iter()),
            None
        );
        assert_eq!(
            decode([(&b"\xff"[..], &b"1"[..]), (b"j", &good)].into_iter()),
            None,
            "X60"
        );
        assert!(
            decode([(&b"\xff"[..], &b"1"[..]), (b"j", &good), (b"p", b"1")].into_iter()).is_some()
        );
    }
}
