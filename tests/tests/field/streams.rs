//! A Redis that refuses, forgets or is tampered with.
