package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"koala/app"
	"koala/hostlink"
	"koala/switching"
)

// linkFlags say where shops' terminals come in and where issuers' hosts are.
type linkFlags struct {
	terminals string
	peers     []string
}

func (f *linkFlags) add(c *cobra.Command, terminals string) {
	c.Flags().StringVar(&f.terminals, "terminals", terminals, "address and port for shops' terminals (docs/terminal-protocol.md); empty: none")
	c.Flags().StringArrayVar(&f.peers, "peer", nil, "NAME=HOST:PORT of an issuer's host, NAME as routes call it; as often as there are hosts")
}

// dial reads --peer.
func (f *linkFlags) dial() (*peers, error) {
	p := &peers{ways: map[string]switching.Peer{}}
	for _, text := range f.peers {
		name, address, ok := strings.Cut(text, "=")
		if _, _, err := net.SplitHostPort(address); !ok || name == "" || len(name) > 11 || err != nil {
			return nil, errUsage{fmt.Errorf("--peer %q is not NAME=HOST:PORT, the name of at most 11 characters", text)}
		}
		if p.ways[name] != nil {
			return nil, errUsage{fmt.Errorf("--peer: %s stands there twice", name)}
		}
		p.reach(name, address)
	}
	return p, nil
}

// peers are the ways to issuers' hosts.
type peers struct {
	ways    map[string]switching.Peer
	clients []*hostlink.Client
	host    atomic.Pointer[switching.Host] // takes answers that nobody waits for, once there is one
}

// reach makes the way to the host called name.
func (p *peers) reach(name, address string) {
	c := &hostlink.Client{
		Dial: func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", address) },
		Stray: func(message []byte) {
			if h := p.host.Load(); h != nil {
				h.Late(context.Background(), name, message)
			}
		},
	}
	p.ways[name] = peer{c}
	p.clients = append(p.clients, c)
}

// found tells the ways of the switch, and the log of hosts that share no keys.
func (p *peers) found(ctx context.Context, h *app.House) error {
	p.host.Store(h.Switch)
	keys, err := h.Keys.List(ctx)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, k := range keys {
		known[k.Label] = true
	}
	for name := range p.ways {
		if pin, mac := switching.ZoneLabels(name); !known[pin] || !known[mac] {
			h.Config.Log.Warn("an issuer's host shares no keys with this house: it is not asked; enter them with koala key enter", "host", name)
		}
	}
	return nil
}

func (p *peers) close() {
	for _, c := range p.clients {
		c.Close()
	}
}

// A peer says in the switch's words how its line failed.
type peer struct{ line *hostlink.Client }

// Ask is hostlink.Client.Ask.
func (p peer) Ask(ctx context.Context, request []byte) ([]byte, error) {
	answer, err := p.line.Ask(ctx, request)
	if errors.Is(err, hostlink.ErrNotSent) {
		err = fmt.Errorf("%w: %w", switching.ErrDown, err)
	}
	return answer, err
}

// A counter is where terminals come in.
type counter struct {
	server hostlink.Server
	l      net.Listener
}

// openCounter listens for terminals; nil for an empty address.
func openCounter(address string, to hostlink.Handler, log *slog.Logger) (*counter, error) {
	if address == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening for terminals on %s: %w; choose another address with --terminals", address, err)
	}
	return &counter{server: hostlink.Server{Handler: to, Log: log}, l: l}, nil
}

// where is the address that terminals dial.
func (c *counter) where() string { return c.l.Addr().String() }

// run answers terminals until ctx ends; what it returns then is called to wait
// for the answers that are under way.
func (c *counter) run(ctx context.Context, log *slog.Logger) (wait func()) {
	if c == nil {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.server.Serve(ctx, c.l); err != nil {
			log.Error("terminals", "error", err)
		}
	}()
	return func() { <-done }
}
