//! A payload from the argument, a file or stdin.

use std::io::Read;

use crate::cli::CommandError;

/// More is not read: it is refused anyway, and stdin may never end.
const READ_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The text that `JSON`, `@FILE` or `-` stands for.
pub(super) fn read(argument: &str) -> Result<String, CommandError> {
    match (argument, argument.strip_prefix('@')) {
        ("-", _) => text_of("stdin", std::io::stdin().lock()),
        (_, Some(path)) => {
            let file = std::fs::File::open(path).map_err(|e| {
                CommandError::usage(format!("the payload file {path} cannot be read: {e}"))
            })?;
            text_of(path, file)
        }
        _ => Ok(argument.to_owned()),
    }
}

fn text_of(name: &str, source: impl Read) -> Result<String, CommandError> {
    let mut bytes = Vec::new();
    source
        .take(READ_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(|e| CommandError::usage(format!("the payload cannot be read from {name}: {e}")))?;
    String::from_utf8(bytes)
        .map_err(|_| CommandError::usage(format!("the payload in {name} is no UTF-8 text")))
}
