//! What an operator meets first: messages, addresses, rights, local services.
