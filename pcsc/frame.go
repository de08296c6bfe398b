package pcsc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The controls of the virtual reader, bodies of one byte.
const (
	controlOff   = 0x00
	controlOn    = 0x01
	controlReset = 0x02
	controlATR   = 0x04
)

// maxFrame is the longest body, in bytes: what two bytes of length can say.
const maxFrame = 0xFFFF

// errFrame says that an answer is too long for a frame.
var errFrame = errors.New("pcsc: longer than a frame")

// readFrame reads one frame into buf, which it may grow. begun is called when
// the length has arrived and the body is still to come.
func readFrame(r io.Reader, buf []byte, begun func()) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	begun()
	n := int(binary.BigEndian.Uint16(length[:]))
	if n > cap(buf) {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	_, err := io.ReadFull(r, buf)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return buf, err
}

// writeFrame writes one frame in one write.
func writeFrame(w io.Writer, body []byte) error {
	if len(body) > maxFrame {
		return fmt.Errorf("%w: %d bytes", errFrame, len(body))
	}
	out := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(body)), uint16(len(body)))
	_, err := w.Write(append(out, body...))
	return err
}
