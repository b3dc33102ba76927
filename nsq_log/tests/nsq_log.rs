//! The tool as its users see it: output, exit codes, and what it leaves on disk.

mod nsq_log {
    mod import;
    mod logs;
    mod support;
}
