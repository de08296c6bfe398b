package foreign

import "net"

// Doubling is a listener whose connections send each frame for which twice says
// so two times: an answer that comes again.
func Doubling(l net.Listener, twice func() bool) net.Listener { return &doubling{l, twice} }

type doubling struct {
	net.Listener
	twice func() bool
}

func (d *doubling) Accept() (net.Conn, error) {
	conn, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &doubled{conn, d.twice}, nil
}

// doubled is a connection over which each Write is one frame.
type doubled struct {
	net.Conn
	twice func() bool
}

func (d *doubled) Write(frame []byte) (int, error) {
	n, err := d.Conn.Write(frame)
	if err == nil && d.twice() {
		_, err = d.Conn.Write(frame)
	}
	return n, err
}
