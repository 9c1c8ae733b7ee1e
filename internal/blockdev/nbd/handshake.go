package nbd

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// The protocol's numbers.
const (
	magicServer  = 0x4e42444d41474943 // NBDMAGIC
	magicOption  = 0x49484156454f5054 // IHAVEOPT
	magicReply   = 0x3e889045565a9
	flagFixed    = 1
	flagNoZeroes = 2

	optGo         = 7
	optStructured = 8
	optSetMeta    = 10

	repAck   = 1
	repInfo  = 3
	repMeta  = 4
	repError = 1 << 31

	infoExport = 0
)

const (
	allocation = "base:allocation"
	maxOption  = 64 << 10 // of a reply in the handshake
)

// handshakeTimeout bounds the handshake when the context has no deadline.
const handshakeTimeout = 20 * time.Second

// Client is one connection to one export.
type Client struct {
	conn  net.Conn
	r     *bufio.Reader
	size  int64
	flags uint16
	meta  uint32 // id of the allocation map
	has   bool   // the map

	mu     sync.Mutex
	cookie uint64
	err    error // after which the connection is of no use
}

// New negotiates over an open connection, which is the client's from then on when
// there is no error.
func New(ctx context.Context, conn net.Conn, export string) (*Client, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(handshakeTimeout)
	}
	conn.SetDeadline(deadline)
	c := &Client{conn: conn, r: bufio.NewReaderSize(conn, 64<<10)}
	if err := c.negotiate(export); err != nil {
		return nil, fmt.Errorf("NBD handshake: %w", err)
	}
	conn.SetDeadline(time.Time{})
	return c, nil
}

func (c *Client) negotiate(export string) error {
	var hello struct {
		Magic, Option uint64
		Flags         uint16
	}
	if err := binary.Read(c.r, binary.BigEndian, &hello); err != nil {
		return err
	}
	if hello.Magic != magicServer || hello.Option != magicOption || hello.Flags&flagFixed == 0 {
		return errors.New("this is no server of the fixed newstyle protocol")
	}
	if err := binary.Write(c.conn, binary.BigEndian, uint32(hello.Flags&(flagFixed|flagNoZeroes))); err != nil {
		return err
	}
	if err := c.option(optStructured, nil, func(uint32, []byte) error { return nil }); err != nil {
		return fmt.Errorf("structured replies: %w", err)
	}
	name := binary.BigEndian.AppendUint32(nil, uint32(len(export)))
	name = append(name, export...)
	query := binary.BigEndian.AppendUint32(name, 1)
	query = binary.BigEndian.AppendUint32(query, uint32(len(allocation)))
	err := c.option(optSetMeta, append(query, allocation...), func(kind uint32, data []byte) error {
		if kind == repMeta && len(data) > 4 && string(data[4:]) == allocation {
			c.meta, c.has = binary.BigEndian.Uint32(data), true
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("allocation map: %w", err)
	}
	err = c.option(optGo, append(name[:4+len(export):4+len(export)], 0, 0), func(kind uint32, data []byte) error {
		if kind == repInfo && len(data) >= 12 && binary.BigEndian.Uint16(data) == infoExport {
			c.size, c.flags = int64(binary.BigEndian.Uint64(data[2:])), binary.BigEndian.Uint16(data[10:])
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("export %q: %w", export, err)
	}
	return nil
}

// option sends one option and takes the replies until the server acknowledges it.
func (c *Client) option(option uint32, data []byte, take func(kind uint32, data []byte) error) error {
	msg := binary.BigEndian.AppendUint64(nil, magicOption)
	msg = binary.BigEndian.AppendUint32(msg, option)
	msg = binary.BigEndian.AppendUint32(msg, uint32(len(data)))
	if _, err := c.conn.Write(append(msg, data...)); err != nil {
		return err
	}
	for {
		var rep struct {
			Magic                uint64
			Option, Kind, Length uint32
		}
		if err := binary.Read(c.r, binary.BigEndian, &rep); err != nil {
			return err
		}
		if rep.Magic != magicReply || rep.Option != option || rep.Length > maxOption {
			return errors.New("the server's reply makes no sense")
		}
		body := make([]byte, rep.Length)
		if _, err := io.ReadFull(c.r, body); err != nil {
			return err
		}
		switch {
		case rep.Kind&repError != 0:
			return fmt.Errorf("refused with code %d: %s", rep.Kind&^repError, body)
		case rep.Kind == repAck:
			return nil
		}
		if err := take(rep.Kind, body); err != nil {
			return err
		}
	}
}

// Size is the export's, in bytes.
func (c *Client) Size() int64 { return c.size }

// Broken tells whether the connection is of no use any more.
func (c *Client) Broken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err != nil
}

// Close ends the connection properly.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.send(cmdDisconnect, 0, 0, nil) // the server closes then
		io.Copy(io.Discard, c.r)
		c.err = net.ErrClosed
	}
	return c.conn.Close()
}
