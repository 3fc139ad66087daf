//! The program: everything else is in the library, where the tests reach it.

use millstream_worker::{Program, worker_main};

fn main() -> std::process::ExitCode {
    let program = Program {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        about: "Greets people and books invoices",
    };
    worker_main(program, own_handlers::handlers())
}
