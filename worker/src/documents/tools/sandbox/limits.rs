//! How much a child process may use. The figures are for one file or one slice of pages, not for a document.

use std::ffi::OsString;
use std::time::Duration;

/// What one run of a program may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Seconds of CPU time.
    pub cpu_s: u64,
    /// Address space in bytes. It counts mapped libraries too, so it is well above the memory in use.
    pub memory_bytes_max: u64,
    /// Size of the largest file that the program may write, in bytes.
    pub file_bytes_max: u64,
    /// Time on the clock; several times `cpu_s`, because a machine under load gives a process less than a core.
    pub wall: Duration,
    /// Bytes that it may print.
    pub stdout_bytes_max: usize,
}

const MIB: u64 = 1024 * 1024;

/// `ulimit -v` counts in KiB.
const ULIMIT_MEMORY_UNIT: u64 = 1024;

/// `ulimit -f` counts in blocks of 512 bytes (POSIX). A shell that counts in KiB gives twice the limit, still a limit.
const ULIMIT_FILE_UNIT: u64 = 512;

impl Limits {
    /// `pdfinfo` reads the trailer and the page tree: milliseconds, except on a file made to be slow.
    pub const INSPECT: Self =
        Self { cpu_s: 10, memory_bytes_max: 512 * MIB, file_bytes_max: 0, wall: Duration::from_secs(30), stdout_bytes_max: MIB as usize };

    /// `pdftotext` on one slice of pages: 117 dense pages take 0.6 s. Word boxes are about 15 bytes per byte of
    /// text, and 16 MiB are a million letters; a longer slice is halved, so only a single page can hit that. A worker
    /// holds the boxes of several files at once.
    pub const TEXT: Self = Self {
        cpu_s: 60,
        memory_bytes_max: 768 * MIB,
        file_bytes_max: 0,
        wall: Duration::from_mins(3),
        stdout_bytes_max: 16 * MIB as usize,
    };

    /// `pdfimages -list` decodes no pixels. 8 MiB are about 80,000 images.
    pub const LIST_IMAGES: Self = Self {
        cpu_s: 30,
        memory_bytes_max: 512 * MIB,
        file_bytes_max: 0,
        wall: Duration::from_secs(90),
        stdout_bytes_max: 8 * MIB as usize,
    };

    /// `pdfimages -png` on one page: compressing 40 megapixels takes about 10 s. 256 MiB are more than 40 megapixels
    /// of incompressible RGB; one image is decoded at a time, in memory for JPEG 2000 and JBIG2.
    pub const EXTRACT_IMAGES: Self = Self {
        cpu_s: 60,
        memory_bytes_max: 1024 * MIB,
        file_bytes_max: 256 * MIB,
        wall: Duration::from_mins(3),
        stdout_bytes_max: MIB as usize,
    };

    /// Tesseract on one image: a page of 150 dpi takes 0.7 s of CPU, a page of noise a hundred times that. An image
    /// that needs more than a minute holds no text worth it. Leptonica keeps several copies at 4 bytes a pixel.
    pub const OCR: Self = Self {
        cpu_s: 60,
        memory_bytes_max: 1536 * MIB,
        file_bytes_max: 0,
        wall: Duration::from_mins(1),
        stdout_bytes_max: 16 * MIB as usize,
    };

    /// The arguments of the shell script, in its order and units.
    pub(super) fn shell_arguments(&self) -> [OsString; 3] {
        [
            self.cpu_s.to_string().into(),
            (self.memory_bytes_max / ULIMIT_MEMORY_UNIT).to_string().into(),
            self.file_bytes_max.div_ceil(ULIMIT_FILE_UNIT).to_string().into(),
        ]
    }
}
