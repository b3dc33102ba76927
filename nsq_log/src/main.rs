mod executors;
mod files;
mod progress;
mod window;
fn main() {}
