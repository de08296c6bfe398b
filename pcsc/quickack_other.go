//go:build !linux

package pcsc

import "net"

// quickAck does nothing: only Linux delays so long and can be told not to.
func quickAck(net.Conn) {}
