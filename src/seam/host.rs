//! What the worker may do to its machine.

use std::{io, process::Command};

use async_trait::async_trait;

/// Actions on the machine itself, and what only the machine's owner can say.
#[async_trait]
pub trait HostActions: Send + Sync + 'static {
    /// Powers the machine off. `why` appears in the system's log.
    fn shutdown(&self, why: &str) -> io::Result<()>;

    /// Restarts the machine.
    fn reboot(&self, why: &str) -> io::Result<()>;

    /// Asks whoever owns the machine whether it is about to be taken away. No cloud is asked yet: the answer is no.
    async fn termination_is_imminent(&self) -> bool {
        false
    }
}

/// Uses the `shutdown` command of the machine, through `sudo` when the worker is not root, as the reference does.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemHost;

impl SystemHost {
    fn call(flag: &str, why: &str) -> io::Result<()> {
        let mut command = if nix::unistd::geteuid().is_root() {
            Command::new("/sbin/shutdown")
        } else {
            let mut sudo = Command::new("/usr/bin/sudo");
            sudo.arg("/sbin/shutdown");
            sudo
        };
        let status = command.args([flag, "now", why]).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("shutdown {flag} ended with {status}"))) }
    }
}

impl HostActions for SystemHost {
    fn shutdown(&self, why: &str) -> io::Result<()> {
        Self::call("-h", why)
    }

    fn reboot(&self, why: &str) -> io::Result<()> {
        Self::call("-r", why)
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
}
