//! The command `millstream`.
//!
//! Everything it does is in the library, where tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    millstream_admin::cli::main()
}
