//! stub
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    MalformedPayload,
    ResourceUnavailable,
    InternalError,
    IntermittentTask,
    WorkerShutdown,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    Completed,
    Failed,
    Exception(Reason),
}
