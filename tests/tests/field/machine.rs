//! What a shortage of this machine does to documents, and what tools of a document can reach.
