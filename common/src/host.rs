//! The machine that this process runs on, by its name.

/// The name, `localhost` where the system does not tell.
pub fn name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}
