//! Text out of PDF files: order, spaces, scripts, what a page yielded.
