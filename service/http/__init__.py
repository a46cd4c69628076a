"""HTTP/1.1 connections, written on httptools, and the bounds on what a client may do with them."""
