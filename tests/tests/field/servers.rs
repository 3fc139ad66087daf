//! Connections, ports and bodies of our own servers.
