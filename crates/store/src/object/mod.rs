//! Objects in stores, over the network: read by ranges, written in parts, listed by prefix.

mod answer;
mod bucket;
mod client;
mod environment;
mod listing;
pub mod remote;
mod upload;

use object_store::Error as StoreError;

fn fault(text: String) -> StoreError {
    StoreError::Generic {
        store: "onnxseal",
        source: text.into(),
    }
}
