//! The rules of style and structure that a program can check, over every Rust file of ours.

mod tidy {
    mod arrows;
    mod shape;
    mod source;
}
