//! What the worker may do to its machine.

use std::{
    io,
    process::{Command, Stdio},
};

use async_trait::async_trait;

/// Actions on the machine itself, and what only the machine's owner can say.
#[async_trait]
pub trait HostActions: Send + Sync + 'static {
    /// Powers the machine off. `why` appears in the system's log.
    fn shutdown(&self, why: &str) -> io::Result<()>;

    /// Restarts the machine.
    fn reboot(&self, why: &str) -> io::Result<()>;

    /// Loads a module of the kernel with these options. Blocks.
    fn load_module(&self, name: &str, options: &[String]) -> io::Result<()>;

    /// Asks whoever owns the machine whether it is about to be taken away. No cloud is asked yet: the answer is no.
    async fn termination_is_imminent(&self) -> bool {
        false
    }
}

/// Uses the `shutdown` command of the machine, through `sudo` when the worker is not root, as the reference does.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemHost;

impl SystemHost {
    fn call(program: &str, arguments: &[&str]) -> io::Result<()> {
        let mut command = if nix::unistd::geteuid().is_root() {
            Command::new(program)
        } else {
            let mut sudo = Command::new("/usr/bin/sudo");
            // Nobody is there to type a password.
            sudo.args(["--non-interactive", program]);
            sudo
        };
        let output = command.args(arguments).stdin(Stdio::null()).output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().lines().next().unwrap_or_default().to_owned();
        Err(io::Error::other(format!("{program} ended with {}: {said}", output.status)))
    }
}

impl HostActions for SystemHost {
    fn shutdown(&self, why: &str) -> io::Result<()> {
        Self::call("/sbin/shutdown", &["-h", "now", why])
    }

    fn reboot(&self, why: &str) -> io::Result<()> {
        Self::call("/sbin/shutdown", &["-r", "now", why])
    }

    fn load_module(&self, name: &str, options: &[String]) -> io::Result<()> {
        let arguments: Vec<&str> = [name].into_iter().chain(options.iter().map(String::as_str)).collect();
        Self::call("/sbin/modprobe", &arguments)
    }
}

/// Does nothing. For `exec`, which never owns the machine it runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHostActions;

impl HostActions for NoHostActions {
    fn shutdown(&self, _why: &str) -> io::Result<()> {
        Ok(())
    }

    fn reboot(&self, _why: &str) -> io::Result<()> {
        Ok(())
    }

    fn load_module(&self, name: &str, _options: &[String]) -> io::Result<()> {
        Err(io::Error::other(format!("module {name} is not loaded, and this worker does not change the machine")))
    }
}
