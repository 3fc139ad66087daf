//! Starts programs from a thread that stays: the kernel ends them with their parent *thread*, so that a killed run leaves none.

use std::{
    io,
    path::Path,
    process::{Child, Command},
    sync::mpsc,
};

use anyhow::{Context as _, Result};

type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// The thread; it ends with this value, and its children with it.
pub(super) struct Nest(mpsc::Sender<Order>);

impl Nest {
    pub(super) fn open() -> Result<Self> {
        let (orders, inbox) = mpsc::channel::<Order>();
        std::thread::Builder::new()
            .name("nest".into())
            .spawn(move || {
                for (mut command, answer) in inbox {
                    let _ = answer.send(command.spawn());
                }
            })?;
        Ok(Self(orders))
    }

    pub(super) fn start(&self, command: Command) -> Result<Child> {
        let name = format!("{command:?}");
        let (answer, answered) = mpsc::channel();
        self.0
            .send((command, answer))
            .ok()
            .context("the nest has ended")?;
        answered
            .recv()
            .context("the nest has ended")?
            .with_context(|| format!("cannot start {name}"))
    }
}

/// A command whose process is killed with its parent, where the machine has the program for it.
pub(super) fn bound_to_us(program: &Path) -> Command {
    let setpriv = ["/usr/bin/setpriv", "/bin/setpriv"]
        .map(Path::new)
        .into_iter()
        .find(|path| path.exists());
    let Some(setpriv) = setpriv else {
        return Command::new(program);
    };
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}
