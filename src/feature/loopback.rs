//! `capabilities.devices.loopbackVideo` and `loopbackAudio`: a camera and a sound card that play what is written to them. The
//! module that makes them is loaded when a task asks for the first time, and stays.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use nix::unistd::Group;

use super::table::Part;
use crate::{
    run::{
        context::RunContext,
        outcome::{Blame, RunError},
    },
    seam::HostActions,
};

/// Where devices are.
const DEVICES: &str = "/dev";
/// Sound cards have numbers up to this.
const LAST_CARD: u8 = 31;
/// Members of the device's group may use it, nobody else.
const MODE: u32 = 0o660;

/// One kind of device with the number that the pool gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loopback {
    /// `/dev/video<N>`
    Video(u8),
    /// Card `<N>` below `/dev/snd`.
    Audio(u8),
}

impl Loopback {
    /// The module, its options, the group, and the nodes that it makes, relative to `/dev`.
    fn made_by(self) -> (&'static str, Vec<String>, &'static str, Vec<String>) {
        match self {
            Self::Video(number) => {
                ("v4l2loopback", vec![format!("video_nr={number}")], "video", vec![format!("video{number}")])
            }
            Self::Audio(number) => {
                let nodes = ["controlC#", "pcmC#D0c", "pcmC#D0p", "pcmC#D1c", "pcmC#D1p"];
                let nodes = nodes.map(|node| format!("snd/{}", node.replace('#', &number.to_string())));
                ("snd-aloop", vec!["enable=1".to_owned(), format!("index={number}")], "audio", nodes.to_vec())
            }
        }
    }

    /// Makes sure that the device is there and may be used. Blocks.
    fn ensure(self, devices: &Path, host: &dyn HostActions) -> io::Result<()> {
        if let Self::Audio(number) = self
            && number > LAST_CARD
        {
            return Err(io::Error::other(format!("there is no sound card number {number}; {LAST_CARD} is the last")));
        }
        let (module, options, group, nodes) = self.made_by();
        let nodes: Vec<PathBuf> = nodes.into_iter().map(|node| devices.join(node)).collect();
        let missing = || nodes.iter().find(|node| !node.exists());
        if missing().is_some() {
            host.load_module(module, &options)?;
        }
        if let Some(node) = missing() {
            return Err(io::Error::other(format!("module {module} is loaded, but {} is not there", node.display())));
        }
        if !nix::unistd::geteuid().is_root() {
            return Ok(());
        }
        // A machine without the group leaves the device to root.
        let group = Group::from_name(group).ok().flatten().map(|group| group.gid.as_raw());
        for node in &nodes {
            std::os::unix::fs::chown(node, None, group)?;
            fs::set_permissions(node, fs::Permissions::from_mode(MODE))?;
        }
        Ok(())
    }
}

#[async_trait]
impl Part<RunContext> for Loopback {
    fn name(&self) -> &'static str {
        match self {
            Self::Video(_) => "Loopback Video",
            Self::Audio(_) => "Loopback Audio",
        }
    }

    async fn start(&self, cx: &RunContext) -> Result<(), RunError> {
        let (device, host) = (*self, Arc::clone(&cx.shop.host));
        let made = tokio::task::spawn_blocking(move || device.ensure(Path::new(DEVICES), host.as_ref())).await;
        let made = made.unwrap_or_else(|error| Err(io::Error::other(error)));
        made.map_err(|error| RunError::new(Blame::Worker, format!("make the {} device: {error}", self.name())))?;
        if let Self::Video(number) = self {
            let path = format!("{DEVICES}/video{number}");
            cx.log.info(&format!("Loopback video device is available at {path}"));
            cx.add_env("TASKCLUSTER_VIDEO_DEVICE", path);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A machine whose kernel makes these files when a module is loaded.
    struct Machine {
        makes: Vec<PathBuf>,
        loaded: Mutex<Vec<String>>,
    }

    impl HostActions for Machine {
        fn shutdown(&self, _why: &str) -> io::Result<()> {
            Ok(())
        }

        fn reboot(&self, _why: &str) -> io::Result<()> {
            Ok(())
        }

        fn load_module(&self, name: &str, options: &[String]) -> io::Result<()> {
            self.loaded.lock().expect("nobody panicked").push(format!("{name} {}", options.join(" ")));
            self.makes.iter().try_for_each(|node| fs::write(node, ""))
        }
    }

    #[test]
    fn a_module_is_loaded_once_and_the_device_belongs_to_its_group() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("snd")).expect("made");
        let nodes = ["controlC7", "pcmC7D0c", "pcmC7D0p", "pcmC7D1c", "pcmC7D1p"];
        let makes = nodes.iter().map(|node| dir.path().join("snd").join(node)).collect();
        let machine = Machine { makes, loaded: Mutex::default() };
        for _ in 0..2 {
            Loopback::Audio(7).ensure(dir.path(), &machine).expect("it is there");
        }
        assert_eq!(*machine.loaded.lock().expect("nobody panicked"), ["snd-aloop enable=1 index=7"]);
        if nix::unistd::geteuid().is_root() {
            let mode = fs::metadata(dir.path().join("snd/pcmC7D1p")).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, MODE);
        }
    }

    #[test]
    fn a_module_that_makes_nothing_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let machine = Machine { makes: Vec::new(), loaded: Mutex::default() };
        let error = Loopback::Video(3).ensure(dir.path(), &machine).expect_err("no device");
        assert!(error.to_string().contains("video3 is not there"), "{error}");
        assert_eq!(*machine.loaded.lock().expect("nobody panicked"), ["v4l2loopback video_nr=3"]);
        assert!(Loopback::Audio(32).ensure(dir.path(), &machine).is_err(), "there is no such card");
    }
}
