// Package token seals what a token says into an opaque text and opens it again.
//
// Tokens are stateless, as Keystone's Fernet tokens are: nothing is stored when
// one is issued. A token is
//
//	version (1 byte) | key id (4 bytes) | nonce (24 bytes) | XChaCha20-Poly1305 of the payload
//
// in unpadded base64url, well below 255 characters. Version and key id are
// authenticated as additional data. The payload packs ids of 32 hex digits into
// 16 bytes and leaves any other id as it is.
//
// Keys come in a Ring with three states, as upstream's key repository has them:
// one primary key seals; every key opens; the staged key will be the next
// primary, so that all members know it before the first token is sealed with it;
// secondary keys were primary and are forgotten once no token of theirs can
// still be alive. Rotate is a pure function on a key set; who stores it, stores
// it.
package token
