//! What a pool does not give to containers, whatever they ask for.

use tc_payload::docker;

use crate::config::D2gConfig;

/// Takes away what the pool does not allow. Returns what the payload asked for in vain, and the setting that withholds it.
///
/// As with the reference worker, the task runs all the same.
pub fn withhold(payload: &mut docker::Payload, pool: &D2gConfig) -> Vec<(&'static str, &'static str)> {
    let can = &mut payload.container.capabilities;
    let features = &mut payload.common.features;
    let asked = [
        (&mut can.privileged, pool.allow_privileged, "capabilities.privileged", "allowPrivileged"),
        (&mut can.disable_seccomp, pool.allow_disable_seccomp, "capabilities.disableSeccomp", "allowDisableSeccomp"),
        (
            &mut can.host_shared_memory,
            pool.allow_host_shared_memory,
            "capabilities.devices.hostSharedMemory",
            "allowHostSharedMemory",
        ),
        (&mut can.kvm, pool.allow_kvm, "capabilities.devices.kvm", "allowKVM"),
        (&mut can.loopback_audio, pool.allow_loopback_audio, "capabilities.devices.loopbackAudio", "allowLoopbackAudio"),
        (&mut can.loopback_video, pool.allow_loopback_video, "capabilities.devices.loopbackVideo", "allowLoopbackVideo"),
        (&mut can.allow_ptrace, pool.allow_ptrace, "features.allowPtrace", "allowPtrace"),
        (&mut features.chain_of_trust, pool.allow_chain_of_trust, "features.chainOfTrust", "allowChainOfTrust"),
        (&mut features.interactive, pool.allow_interactive, "features.interactive", "allowInteractive"),
        (&mut features.taskcluster_proxy, pool.allow_taskcluster_proxy, "features.taskclusterProxy", "allowTaskclusterProxy"),
    ];
    let mut withheld = Vec::new();
    for (wanted, allowed, what, setting) in asked {
        if *wanted && !allowed {
            *wanted = false;
            withheld.push((what, setting));
        }
    }
    withheld
}
