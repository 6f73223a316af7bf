//! The broker process as a library; `main.rs` is its binary.
