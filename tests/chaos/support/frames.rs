//! Cuts the bytes of a Postgres connection into messages, as far as the proxy must understand them.
