// Package console lets people and clients reach a server's screen and serial
// console over WebSocket, as upstream's nova-novncproxy and nova-serialproxy do.
//
// It owns the Token records: a token opens one console of one server on one
// host, for a short time. Only its hash is kept. A token is worth nothing once
// the server is deleted or has left the host; a session ends with the machine's
// console, whoever ends that.
//
// The proxy speaks binary frames, with the subprotocol "binary" for clients that
// ask for it. RFB is passed through: any noVNC works with the WebSocket's address.
// The pages are small clients of their own: a viewer (RFC 6143, raw rectangles)
// and a line terminal.
package console
