//! A machine that has run out of something: descriptors, disk, memory, processes. Never the fault of the job that met it.
//!
//! The one place that tells such errors from others; whoever meets one waits and says what is missing.

use std::{
    error::Error,
    io::{self, ErrorKind},
};

/// Descriptors of the whole machine; the same number on Linux and macOS, and without an [`ErrorKind`] of its own.
const ENFILE: i32 = 23;
/// Descriptors of this process; likewise.
const EMFILE: i32 = 24;

/// What this machine is short of, if that is the reason of `error` or of any error behind it.
pub fn shortage(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            // The source of an error that wraps another one is the source of that one: it would be passed over.
            let inner = io.get_ref().and_then(|inner| shortage(inner));
            if let Some(found) = of_io(io).or(inner) {
                return Some(found);
            }
        }
        next = error.source();
    }
    None
}

/// The same for an error of the operating system.
pub fn of_io(error: &io::Error) -> Option<&'static str> {
    match (error.raw_os_error(), error.kind()) {
        (Some(EMFILE), _) => {
            Some("this process has no file descriptor left: raise its limit (ulimit -n)")
        }
        (Some(ENFILE), _) => Some("this machine has no file descriptor left"),
        (_, ErrorKind::StorageFull) => Some("the disk is full"),
        (_, ErrorKind::QuotaExceeded) => Some("the disk quota is used up"),
        (_, ErrorKind::ReadOnlyFilesystem) => Some("the disk is read-only"),
        (_, ErrorKind::OutOfMemory) => Some("this machine has no memory left"),
        // What files and programs say when no process or thread can be made (ulimit -u); none of ours is asked not to block.
        (Some(_), ErrorKind::WouldBlock) => {
            Some("this machine can start no more processes (ulimit -u)")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the store failed")]
    struct Wrapped(#[source] io::Error);

    // X24, X48: ENFILE, EMFILE, ENOSPC, EDQUOT, EROFS, ENOMEM, EAGAIN of Linux
    #[cfg(target_os = "linux")]
    #[test]
    fn every_shortage_is_told_from_other_errors_however_deep_it_is() {
        for code in [23, 24, 28, 122, 30, 12, 11] {
            let plain = io::Error::from_raw_os_error(code);
            assert!(shortage(&plain).is_some(), "{plain}");
            let deep = io::Error::other(Wrapped(io::Error::other(Wrapped(plain))));
            assert!(shortage(&Wrapped(deep)).is_some(), "{code}");
        }
        // Not there, not allowed, is a folder, input or output failed, broken pipe.
        for code in [2, 13, 21, 5, 32] {
            assert_eq!(
                shortage(&io::Error::from_raw_os_error(code)),
                None,
                "{code}"
            );
        }
        assert_eq!(shortage(&io::Error::from(ErrorKind::UnexpectedEof)), None);
    }
}
