//! Pictures and scans: orientation, resolution, size, language.
