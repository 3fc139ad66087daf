//! Which programs a kind needs on its machine. A worker without them does not take its jobs: another one may have them.

use std::ffi::OsStr;

use millstream_worker::Handler;

use super::{
    payload::{EXTRACT, IMAGE},
    tools::{ToolError, tool::Tool},
};

/// Kinds that start programs, and the programs.
pub const NEEDS: [(&str, &[Tool]); 2] = [
    (
        EXTRACT,
        &[
            Tool::PdfInfo,
            Tool::PdfToText,
            Tool::PdfFonts,
            Tool::PdfImages,
            Tool::PdfToPpm,
        ],
    ),
    (IMAGE, &[Tool::Tesseract]),
];

/// The handlers whose programs are all there. The others are named in the log, with what to install.
pub(super) fn served(handlers: Vec<Handler>, search_path: &OsStr) -> Vec<Handler> {
    let is_served = |handler: &Handler| match missing(handler.kind(), search_path) {
        None => true,
        Some(reason) => {
            tracing::warn!(kind = handler.kind(), %reason, "this worker does not take jobs of this kind");
            false
        }
    };
    handlers.into_iter().filter(is_served).collect()
}

/// The first program that a kind lacks.
fn missing(kind: &str, search_path: &OsStr) -> Option<ToolError> {
    let (_, tools) = NEEDS.iter().find(|(name, _)| *name == kind)?;
    tools
        .iter()
        .find_map(|tool| tool.find_in(search_path).err())
}
