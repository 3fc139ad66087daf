//! The command `millstream`.
//!
//! Only the process-wide things are here: the TLS provider, the arguments, the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // One provider for the whole process; a second call would only say that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    millstream_admin::cli::main()
}
