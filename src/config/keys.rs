//! The settings: their names, their types, and how far this worker follows them.

/// One setting.
pub(super) struct Key {
    /// In its documented spelling. Files may write it in any case.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) standing: Standing,
}

/// What a value must be.
pub(super) enum Kind {
    Text,
    /// Text that is never shown.
    Secret,
    Flag,
    /// A whole number from 0 to this.
    Whole(u64),
    /// An IP address; empty is none.
    Address,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Anything, for it is not taken anyway.
    Any,
    /// An object whose contents are not ours to judge.
    Object,
    /// An object of settings.
    Group(&'static [Key]),
    /// An object of such objects, under names that are not ours to choose.
    Named(&'static [Key]),
    /// A number from 0 to this, fractions allowed.
    Fraction(u32),
    /// A list of texts.
    Texts,
    /// A list of images, as payloads name them.
    Images,
}

/// How far this worker follows a setting.
pub(super) enum Standing {
    Followed,
    /// It belongs to a part that does not exist yet. Asking for the part (`true`, or a text) is worth a warning.
    Later,
    /// The reference worker does not know it any more. At this neutral value it does no harm.
    Retired {
        neutral: Neutral,
        advice: &'static str,
    },
    /// It would hold a secret that belongs elsewhere, and is never shown.
    Refused {
        advice: &'static str,
    },
}

/// A value that asks for nothing.
pub(super) enum Neutral {
    EmptyText,
    Zero,
    False,
}

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, standing: Standing::Followed }
}

const fn later(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, standing: Standing::Later }
}

const fn retired(name: &'static str, kind: Kind, neutral: Neutral, advice: &'static str) -> Key {
    Key { name, kind, standing: Standing::Retired { neutral, advice } }
}

const fn refused(name: &'static str, advice: &'static str) -> Key {
    Key { name, kind: Kind::Any, standing: Standing::Refused { advice } }
}

const BYTE: u64 = u8::MAX as u64;
const PORT: u64 = u16::MAX as u64;
const U32: u64 = u32::MAX as u64;

/// The settings at the top of a file.
pub(super) const KEYS: &[Key] = &[
    key("accessToken", Kind::Secret),
    key("allowedHighMemoryDurationSecs", Kind::Whole(u64::MAX)),
    key("availabilityZone", Kind::Text),
    key("cachesDir", Kind::Text),
    key("capacity", Kind::Whole(BYTE)),
    key("certificate", Kind::Secret),
    key("cleanUpTaskDirs", Kind::Flag),
    key("clientId", Kind::Text),
    key("createObjectArtifacts", Kind::Flag),
    key("d2gConfig", Kind::Group(D2G_KEYS)),
    key("disableNativePayloads", Kind::Flag),
    key("disableOOMProtection", Kind::Flag),
    key("disableReboots", Kind::Flag),
    key("downloadsDir", Kind::Text),
    key("ed25519SigningKeyLocation", Kind::Text),
    later("enableChainOfTrust", Kind::Flag),
    later("enableInteractive", Kind::Flag),
    key("enableLiveLog", Kind::Flag),
    later("enableLoopbackAudio", Kind::Flag),
    later("enableLoopbackVideo", Kind::Flag),
    key("enableMetadata", Kind::Flag),
    later("enableMounts", Kind::Flag),
    key("enableOSGroups", Kind::Flag),
    key("enableResourceMonitor", Kind::Flag),
    later("enableRunTaskAsCurrentUser", Kind::Flag),
    later("enableTaskclusterProxy", Kind::Flag),
    later("headlessTasks", Kind::Flag),
    key("idleTimeoutSecs", Kind::Whole(u64::MAX)),
    key("instanceId", Kind::Text),
    key("instanceType", Kind::Text),
    key("interactivePort", Kind::Whole(PORT)),
    key("livelogExecutable", Kind::Text),
    key("livelogExposePort", Kind::Whole(PORT)),
    key("livelogPortBase", Kind::Whole(PORT)),
    key("loopbackAudioDeviceNumber", Kind::Whole(BYTE)),
    key("loopbackVideoDeviceNumber", Kind::Whole(BYTE)),
    key("maxMemoryUsagePercent", Kind::Whole(u64::MAX)),
    key("maxTaskRunTime", Kind::Whole(U32)),
    key("minAvailableMemoryBytes", Kind::Whole(u64::MAX)),
    key("numberOfTasksToRun", Kind::Whole(u64::MAX)),
    key("privateIP", Kind::Address),
    key("provisionerId", Kind::Text),
    key("publicIP", Kind::Address),
    key("region", Kind::Text),
    key("requiredDiskSpaceMegabytes", Kind::Whole(u64::MAX)),
    key("rootURL", Kind::Text),
    later("runAfterUserCreation", Kind::Text),
    later("sentryProject", Kind::Text),
    key("shutdownMachineOnIdle", Kind::Flag),
    key("shutdownMachineOnInternalError", Kind::Flag),
    key("taskclusterProxyExecutable", Kind::Text),
    key("taskclusterProxyPort", Kind::Whole(PORT)),
    key("tasksDir", Kind::Text),
    key("tcWorker", Kind::Group(OWN_KEYS)),
    key("workerGroup", Kind::Text),
    key("workerId", Kind::Text),
    key("workerLocation", Kind::Text),
    key("workerType", Kind::Text),
    key("workerTypeMetadata", Kind::Object),
    later("wstAudience", Kind::Text),
    later("wstServerURL", Kind::Text),
    retired(
        "checkForNewDeploymentEverySecs",
        Kind::Whole(u64::MAX),
        Neutral::Zero,
        "to stop outdated workers, let worker-manager terminate them",
    ),
    retired("deploymentId", Kind::Text, Neutral::EmptyText, "to stop outdated workers, let worker-manager terminate them"),
    retired(
        "runTasksAsCurrentUser",
        Kind::Flag,
        Neutral::False,
        "set `engine` in `tcWorker` to \"insecure\" to run tasks as the user of the worker",
    ),
];

/// The settings for container payloads.
const D2G_KEYS: &[Key] = &[
    key("allowChainOfTrust", Kind::Flag),
    key("allowDisableSeccomp", Kind::Flag),
    key("allowGPUs", Kind::Flag),
    key("allowHostSharedMemory", Kind::Flag),
    key("allowInteractive", Kind::Flag),
    key("allowKVM", Kind::Flag),
    key("allowLoopbackAudio", Kind::Flag),
    key("allowLoopbackVideo", Kind::Flag),
    key("allowPrivileged", Kind::Flag),
    key("allowPtrace", Kind::Flag),
    key("allowTaskclusterProxy", Kind::Flag),
    key("enableD2G", Kind::Flag),
    key("gpus", Kind::Text),
    key("logTranslation", Kind::Flag),
];

/// The settings that only this worker has.
const OWN_KEYS: &[Key] = &[
    key("caFile", Kind::Text),
    key("cancelPollSecs", Kind::Whole(U32)),
    key("containment", Kind::Word(&["detect", "cgroup", "reaper"])),
    key("docker", Kind::Group(DOCKER_KEYS)),
    key("engine", Kind::Word(&["insecure", "multiuser"])),
    key("giveUpAfterSecs", Kind::Whole(U32)),
    key("liveLog", Kind::Word(&["on", "off-silently"])),
    key("stateDir", Kind::Text),
];

/// The settings for the engine that runs containers.
const DOCKER_KEYS: &[Key] = &[
    key("cpus", Kind::Fraction(1 << 20)),
    key("gc", Kind::Word(&["own", "host"])),
    key("giveUpAfterSecs", Kind::Whole(U32)),
    key("host", Kind::Text),
    key("manifestTtlSecs", Kind::Whole(U32)),
    key("memoryMegabytes", Kind::Whole(U32)),
    key("pids", Kind::Whole(U32)),
    key("prefetch", Kind::Images),
    key("registries", Kind::Named(REGISTRY_KEYS)),
    key("whenDown", Kind::Word(&["stop", "native-only"])),
];

/// The settings for one registry.
const REGISTRY_KEYS: &[Key] = &[
    key("mirrors", Kind::Texts),
    refused("password", "write it into a file that only the worker can read, and name that in `passwordFile`"),
    key("passwordFile", Kind::Text),
    refused("token", "write it into a file that only the worker can read, and name that in `tokenFile`"),
    key("tokenFile", Kind::Text),
    key("username", Kind::Text),
    key("usernameFile", Kind::Text),
];
