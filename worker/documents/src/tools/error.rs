//! The one error of the document tools, by what the caller can do about it.
//!
//! Invariant: every text that leaves this module is bounded and free of control characters, because it is stored,
//! logged and shown, and because parts of it were written by whoever made the file.

use millstream_common::shortage::shortage;

/// Longest stored message in bytes: enough for one sentence and a quoted complaint of a tool, too little for a dump.
pub const MESSAGE_BYTES_MAX: usize = 2_000;

/// Why a document tool failed. `Display` is a sentence for people and safe to store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// Permanent: the file itself is the reason and a retry gives the same. Tell the user the message.
    #[error("{message}")]
    Document {
        /// One of [`code`]: stable, for counting and for programs.
        code: &'static str,
        /// What is wrong with the file, in words for its owner.
        message: String,
    },
    /// Permanent until the machine is changed: a program or its data is not installed. Tell the operator.
    #[error("{tool} is not installed: {hint}")]
    Missing {
        /// The program or data file that was looked for.
        tool: String,
        /// What to install.
        hint: String,
    },
    /// This machine has run out of something; the file is not the reason, and an attempt elsewhere or later is whole.
    #[error("{message}")]
    Shortage {
        /// What is short, and what for.
        message: String,
    },
    /// Worth another attempt: input or output failed, or the tool was stopped from outside.
    #[error("{message}")]
    Transient {
        /// What failed.
        message: String,
    },
}

/// The values of [`ToolError::Document`]'s `code`.
pub mod code {
    /// The file has no bytes.
    pub const EMPTY_FILE: &str = "empty_file";
    /// The file has no PDF header.
    pub const NOT_A_PDF: &str = "not_a_pdf";
    /// The file is larger than the tools accept.
    pub const FILE_TOO_LARGE: &str = "file_too_large";
    /// The file needs a password.
    pub const ENCRYPTED: &str = "encrypted";
    /// The file opens without a password, but its author forbids taking content out of it.
    pub const COPY_FORBIDDEN: &str = "copy_forbidden";
    /// The file is a PDF that poppler cannot read.
    pub const DAMAGED: &str = "damaged";
    /// The file has more pages than the limit.
    pub const TOO_MANY_PAGES: &str = "too_many_pages";
    /// The file lists more images than can be counted within the limits.
    pub const TOO_MANY_IMAGES: &str = "too_many_images";
    /// The text gives more chunks than the limit.
    pub const TOO_MUCH_TEXT: &str = "too_much_text";
    /// An image has too many pixels.
    pub const IMAGE_TOO_LARGE: &str = "image_too_large";
    /// An image cannot be decoded.
    pub const IMAGE_UNREADABLE: &str = "image_unreadable";
    /// A tool used up its CPU time on this file.
    pub const LIMIT_CPU: &str = "limit_cpu";
    /// A tool used up its time on the clock on this file.
    pub const LIMIT_TIME: &str = "limit_time";
    /// A tool wanted more memory than allowed for this file.
    pub const LIMIT_MEMORY: &str = "limit_memory";
    /// A tool wrote a larger file than allowed.
    pub const LIMIT_FILE_SIZE: &str = "limit_file_size";
    /// A tool printed more than allowed.
    pub const LIMIT_OUTPUT: &str = "limit_output";
    /// A tool crashed on this file.
    pub const TOOL_CRASHED: &str = "tool_crashed";
}

impl ToolError {
    /// A permanent failure of the file, with a message that is cleaned and bounded here.
    pub fn document(code: &'static str, message: &str) -> Self {
        Self::Document {
            code,
            message: clean(message),
        }
    }

    /// A failure that another attempt may not have.
    pub fn transient(message: &str) -> Self {
        Self::Transient {
            message: clean(message),
        }
    }

    /// A failed read or write of `what`; the operating system's reason is kept, paths are not.
    pub fn io(what: &str, source: &std::io::Error) -> Self {
        Self::caused(what, source)
    }

    /// The same for an error that may stand for one of the operating system.
    pub fn caused(what: &str, source: &(dyn std::error::Error + 'static)) -> Self {
        match shortage(source) {
            Some(short) => Self::shortage(&format!("{what}: {source}: {short}")),
            None => Self::transient(&format!("{what}: {source}")),
        }
    }

    /// This machine has run out of something.
    pub fn shortage(message: &str) -> Self {
        Self::Shortage {
            message: clean(message),
        }
    }

    /// The document code, or `None` if the file is not the reason.
    pub fn document_code(&self) -> Option<&'static str> {
        match self {
            Self::Document { code, .. } => Some(code),
            Self::Missing { .. } | Self::Shortage { .. } | Self::Transient { .. } => None,
        }
    }
}

/// `text` on one line, without control characters, at most [`MESSAGE_BYTES_MAX`] bytes long.
pub fn clean(text: &str) -> String {
    let spaced = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect::<String>();
    let mut line = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > MESSAGE_BYTES_MAX {
        line.truncate(line.floor_char_boundary(MESSAGE_BYTES_MAX - '…'.len_utf8()));
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    // P4
    #[test]
    fn stored_text_has_no_control_characters_and_is_bounded() {
        let error = ToolError::document(
            code::DAMAGED,
            &format!("a\0b\x1b[31m\nc {}", "é".repeat(5_000)),
        );
        let text = error.to_string();
        assert!(text.starts_with("a b [31m c "), "{text}");
        assert!(text.len() <= MESSAGE_BYTES_MAX && text.ends_with('…'));
    }

    // P4
    #[test]
    fn only_the_file_has_a_document_code() {
        assert_eq!(
            ToolError::document(code::EMPTY_FILE, "x").document_code(),
            Some("empty_file")
        );
        assert_eq!(ToolError::transient("x").document_code(), None);
    }
}
