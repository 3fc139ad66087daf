//! Landlock: which files a tool may touch. A kernel without it leaves the tool what the worker's user may.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    Scope, path_beneath_rules,
};

/// Linux 6.12. What an older kernel does not know is left out.
const KNOWN: ABI = ABI::V6;

/// Programs, libraries, fonts, and the devices that say nothing. No secrets: not `/etc` as a whole, not `/proc`, no home.
const SYSTEM: [&str; 21] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix/store",
    "/gnu/store",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/poppler",
    "/etc/localtime",
    "/var/cache/fontconfig",
    "/sys/devices/system/cpu",
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];

/// Beside the folder of a program that was installed under a prefix of its own.
const BESIDE: [&str; 7] = [
    "lib",
    "lib64",
    "libexec",
    "share",
    "opt",
    "Cellar",
    "etc/fonts",
];

/// What a tool may read: the system, the program with what belongs to it, and its data.
pub(super) fn readable(program: &Path, data_dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
    for program in [Some(program.to_owned()), program.canonicalize().ok()]
        .into_iter()
        .flatten()
    {
        let folder = program.parent().map(Path::to_owned);
        if let Some(prefix) = folder
            .as_deref()
            .filter(|folder| folder.ends_with("bin"))
            .and_then(Path::parent)
        {
            paths.extend(BESIDE.iter().map(|name| prefix.join(name)));
        }
        paths.extend(folder);
    }
    paths.extend(Some(data_dir.to_owned()).filter(|dir| !dir.as_os_str().is_empty()));
    paths
}

/// From now on this process may read only `readable` and `writable`, and write only the latter. Paths that do not exist are passed over.
/// False: the kernel takes nothing.
pub(super) fn take(readable: &[PathBuf], writable: &[PathBuf]) -> Result<bool, String> {
    let restricted = || -> Result<_, RulesetError> {
        Ruleset::default()
            .handle_access(AccessFs::from_all(KNOWN))?
            .scope(Scope::from_all(KNOWN))?
            .create()?
            .add_rules(path_beneath_rules(readable, AccessFs::from_read(KNOWN)))?
            .add_rules(path_beneath_rules(writable, AccessFs::from_all(KNOWN)))?
            .add_rules(path_beneath_rules(
                ["/dev/null"],
                AccessFs::from_file(KNOWN),
            ))?
            .restrict_self()
    };
    let status = restricted().map_err(|e| e.to_string())?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}
