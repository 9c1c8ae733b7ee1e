package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"syscall"
)

const (
	magicRequest    = 0x25609513
	magicSimple     = 0x67446698
	magicStructured = 0x668e33ef

	cmdRead       = 0
	cmdWrite      = 1
	cmdDisconnect = 2
	cmdFlush      = 3
	cmdTrim       = 4
	cmdZeroes     = 6
	cmdStatus     = 7

	chunkDone   = 1 // flag
	chunkNone   = 0
	chunkData   = 1
	chunkHole   = 2
	chunkStatus = 5
	chunkError  = 1 << 15
)

// MaxRequest is the most bytes of one read or write.
const MaxRequest = 32 << 20

// Extent is a stretch of the export.
type Extent struct {
	Length int64
	Zero   bool // reads as zeroes
}

// ReadAt implements io.ReaderAt.
func (c *Client) ReadAt(p []byte, off int64) (int, error) {
	if off >= c.size {
		return 0, io.EOF
	}
	want := p[:min(int64(len(p)), c.size-off)]
	for done := 0; done < len(want); {
		part := want[done:min(len(want), done+MaxRequest)]
		if err := c.do(cmdRead, off+int64(done), uint32(len(part)), nil, reply{into: part, at: off + int64(done)}); err != nil {
			return done, fmt.Errorf("reading at %d: %w", off+int64(done), err)
		}
		done += len(part)
	}
	if len(want) < len(p) {
		return len(want), io.EOF
	}
	return len(want), nil
}

// WriteAt implements io.WriterAt. Written data is safe after the next Flush.
func (c *Client) WriteAt(p []byte, off int64) (int, error) {
	for done := 0; done < len(p); {
		part := p[done:min(len(p), done+MaxRequest)]
		if err := c.do(cmdWrite, off+int64(done), uint32(len(part)), part, reply{}); err != nil {
			return done, fmt.Errorf("writing at %d: %w", off+int64(done), err)
		}
		done += len(part)
	}
	return len(p), nil
}

// Zero makes n bytes zeroes, and frees what they took.
func (c *Client) Zero(off, n int64) error {
	for n > 0 {
		k := min(n, 1<<30)
		if err := c.do(cmdZeroes, off, uint32(k), nil, reply{}); err != nil {
			return fmt.Errorf("zeroing at %d: %w", off, err)
		}
		off, n = off+k, n-k
	}
	return nil
}

// Flush returns when everything written is on stable storage.
func (c *Client) Flush() error {
	if err := c.do(cmdFlush, 0, 0, nil, reply{}); err != nil {
		return fmt.Errorf("flushing: %w", err)
	}
	return nil
}

// Map tells about the export from off on: at least one extent, not necessarily
// as far as n bytes. A server without a map has data everywhere.
func (c *Client) Map(off, n int64) ([]Extent, error) {
	n = min(n, c.size-off, 1<<30)
	if !c.has {
		return []Extent{{Length: n}}, nil
	}
	var out []Extent
	err := c.do(cmdStatus, off, uint32(n), nil, reply{status: func(e Extent) {
		e.Length = min(e.Length, n)
		n -= e.Length
		if e.Length > 0 {
			out = append(out, e)
		}
	}})
	if err == nil && len(out) == 0 {
		err = errors.New("no answer")
	}
	if err != nil {
		return nil, fmt.Errorf("asking what is at %d: %w", off, err)
	}
	return out, nil
}

// reply says where the answer to a request goes.
type reply struct {
	into   []byte // a read's data
	at     int64  // offset of into
	status func(Extent)
}

func (c *Client) send(cmd uint16, off int64, length uint32, data []byte) error {
	c.cookie++
	msg := make([]byte, 0, 28)
	msg = binary.BigEndian.AppendUint32(msg, magicRequest)
	msg = binary.BigEndian.AppendUint16(msg, 0)
	msg = binary.BigEndian.AppendUint16(msg, cmd)
	msg = binary.BigEndian.AppendUint64(msg, c.cookie)
	msg = binary.BigEndian.AppendUint64(msg, uint64(off))
	msg = binary.BigEndian.AppendUint32(msg, length)
	_, err := c.conn.Write(msg)
	if err == nil && len(data) > 0 {
		_, err = c.conn.Write(data)
	}
	return err
}

// do runs one request. A broken connection stays broken.
func (c *Client) do(cmd uint16, off int64, length uint32, data []byte, r reply) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if c.err = c.send(cmd, off, length, data); c.err != nil {
		return c.err
	}
	var refused error
	for {
		done, err := c.receive(r, &refused)
		if err != nil {
			c.err = err
			return err
		}
		if done {
			return refused
		}
	}
}

// receive takes one message of the answer; refused is the server's word that the
// request failed.
func (c *Client) receive(r reply, refused *error) (done bool, err error) {
	var head struct {
		Magic       uint32
		Flags, Kind uint16 // of a simple reply: the error
		Cookie      uint64
	}
	if err := binary.Read(c.r, binary.BigEndian, &head); err != nil {
		return false, err
	}
	if head.Cookie != c.cookie {
		return false, errors.New("the server answers what was not asked")
	}
	if head.Magic == magicSimple {
		if code := uint32(head.Flags)<<16 | uint32(head.Kind); code != 0 {
			*refused = syscall.Errno(code)
		} else if len(r.into) > 0 {
			return false, errors.New("a read needs a structured reply")
		}
		return true, nil
	}
	var length uint32
	if err := binary.Read(c.r, binary.BigEndian, &length); err != nil {
		return false, err
	}
	if head.Magic != magicStructured || length > MaxRequest+8 {
		return false, errors.New("the server's answer makes no sense")
	}
	err = c.chunk(head.Kind, int64(length), r, refused)
	return head.Flags&chunkDone != 0, err
}

func (c *Client) chunk(kind uint16, length int64, r reply, refused *error) error {
	switch {
	case kind == chunkNone:
	case kind&chunkError != 0:
		body := make([]byte, length)
		if _, err := io.ReadFull(c.r, body); err != nil || length < 6 {
			return errors.Join(err, errors.New("an error could not be read"))
		}
		*refused = syscall.Errno(binary.BigEndian.Uint32(body))
		return nil
	case kind == chunkData || kind == chunkHole:
		return c.content(kind, length, r)
	case kind == chunkStatus && r.status != nil:
		body := make([]byte, length)
		if _, err := io.ReadFull(c.r, body); err != nil {
			return err
		}
		for b := body[min(4, len(body)):]; len(b) >= 8; b = b[8:] {
			r.status(Extent{Length: int64(binary.BigEndian.Uint32(b)), Zero: binary.BigEndian.Uint32(b[4:])&2 != 0})
		}
		return nil
	default:
		return fmt.Errorf("an answer of the unknown kind %d", kind)
	}
	return nil
}

// content takes a part of what a read asked for.
func (c *Client) content(kind uint16, length int64, r reply) error {
	var at uint64
	if err := binary.Read(c.r, binary.BigEndian, &at); err != nil {
		return err
	}
	n := length - 8
	if kind == chunkHole {
		var size uint32
		if err := binary.Read(c.r, binary.BigEndian, &size); err != nil {
			return err
		}
		n = int64(size)
	}
	rel := int64(at) - r.at
	if rel < 0 || n < 0 || rel+n > int64(len(r.into)) {
		return errors.New("the server gives what was not asked for")
	}
	part := r.into[rel : rel+n]
	if kind == chunkHole {
		clear(part)
		return nil
	}
	_, err := io.ReadFull(c.r, part)
	return err
}
