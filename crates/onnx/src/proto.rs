//! ONNX's messages, generated from `proto/onnx.proto` (a test of the package there keeps them current).
//!
//! Files are never re-encoded through these: [`crate::locate`] reads the bytes themselves. They
//! serve for their enums, and for building models in tests.

#![allow(missing_docs, clippy::all, clippy::pedantic)]

include!("proto/onnx.rs");
