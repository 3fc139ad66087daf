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
    /// Time on the clock: [`WALL_PER_CPU`] times `cpu_s`.
    pub wall: Duration,
    /// Bytes that it may print.
    pub stdout_bytes_max: usize,
}

const MIB: u64 = 1024 * 1024;

/// `ulimit -v` counts in KiB.
const ULIMIT_MEMORY_UNIT: u64 = 1024;

/// `ulimit -f` counts in blocks of 512 bytes (POSIX). A shell that counts in KiB gives twice the limit, still a limit.
const ULIMIT_FILE_UNIT: u64 = 512;

/// Time on the clock for each second of CPU: a machine under load gives a process a quarter of a core, and that is no
/// fault of the file.
const WALL_PER_CPU: u64 = 4;

/// The time on the clock that belongs to this much CPU time.
const fn wall(cpu_s: u64) -> Duration {
    Duration::from_secs(WALL_PER_CPU * cpu_s)
}

impl Limits {
    /// `pdfinfo` reads the trailer and the page tree: milliseconds, except on a file made to be slow.
    pub const INSPECT: Self = Self {
        cpu_s: 10,
        memory_bytes_max: 512 * MIB,
        file_bytes_max: 0,
        wall: wall(10),
        stdout_bytes_max: MIB as usize,
    };

    /// `pdftotext` on one slice of pages: 117 dense pages take 0.6 s. Word boxes are about 15 bytes per byte of
    /// text, and 16 MiB are a million letters; a longer slice is halved, so only a single page can hit that. A worker
    /// holds the boxes of several files at once.
    pub const TEXT: Self = Self {
        cpu_s: 60,
        memory_bytes_max: 768 * MIB,
        file_bytes_max: 0,
        wall: wall(60),
        stdout_bytes_max: 16 * MIB as usize,
    };

    /// `pdfimages -list` decodes no pixels. 8 MiB are about 80,000 images.
    pub const LIST_IMAGES: Self = Self {
        cpu_s: 30,
        memory_bytes_max: 512 * MIB,
        file_bytes_max: 0,
        wall: wall(30),
        stdout_bytes_max: 8 * MIB as usize,
    };

    /// `pdfimages -png` on one page: compressing 40 megapixels takes about 10 s. 256 MiB are more than 40 megapixels
    /// of incompressible RGB; one image is decoded at a time, in memory for JPEG 2000 and JBIG2.
    pub const EXTRACT_IMAGES: Self = Self {
        cpu_s: 60,
        memory_bytes_max: 1024 * MIB,
        file_bytes_max: 256 * MIB,
        wall: wall(60),
        stdout_bytes_max: MIB as usize,
    };

    /// `pdftoppm` on one page: a scan of 300 dpi takes 0.5 s. The largest picture, 40 megapixels of grey, fits into a
    /// file of 64 MiB.
    pub const RENDER: Self = Self {
        cpu_s: 60,
        memory_bytes_max: 1024 * MIB,
        file_bytes_max: 64 * MIB,
        wall: wall(60),
        stdout_bytes_max: MIB as usize,
    };

    /// Tesseract on one image: a page of 300 dpi takes 2 s of CPU, a page of noise a hundred times that. An image
    /// that needs more than a minute holds no text worth it. Leptonica keeps several copies at 4 bytes a pixel.
    pub const OCR: Self = Self {
        cpu_s: 60,
        memory_bytes_max: 1536 * MIB,
        file_bytes_max: 0,
        wall: wall(60),
        stdout_bytes_max: 16 * MIB as usize,
    };

    /// All of them.
    #[cfg(test)]
    pub(super) const ALL: [Self; 6] = [
        Self::INSPECT,
        Self::TEXT,
        Self::LIST_IMAGES,
        Self::EXTRACT_IMAGES,
        Self::RENDER,
        Self::OCR,
    ];

    /// The arguments of the helper, in its order, in seconds and bytes.
    #[cfg(target_os = "linux")]
    pub(super) fn helper_arguments(&self) -> [OsString; 3] {
        [self.cpu_s, self.memory_bytes_max, self.file_bytes_max]
            .map(|number| number.to_string().into())
    }

    /// The arguments of the shell script, in its order and units.
    pub(super) fn shell_arguments(&self) -> [OsString; 3] {
        [
            self.cpu_s.to_string().into(),
            (self.memory_bytes_max / ULIMIT_MEMORY_UNIT)
                .to_string()
                .into(),
            self.file_bytes_max
                .div_ceil(ULIMIT_FILE_UNIT)
                .to_string()
                .into(),
        ]
    }
}
