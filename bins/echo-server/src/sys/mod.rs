//! What differs between systems.

#[cfg_attr(not(any(target_os = "linux", target_os = "android")), path = "no_affinity.rs")]
pub(crate) mod affinity;
#[cfg_attr(not(unix), path = "no_service_manager.rs")]
pub(crate) mod service_manager;
#[cfg_attr(not(unix), path = "no_unix.rs")]
pub(crate) mod unix;
