//! The control thread: everything an operator talks to. It asks shards by mail and never delays them.
