package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"koala/app"
	"koala/internal/clock"
)

func serveCommand() *cobra.Command {
	var f houseFlags
	var links linkFlags
	var listen string
	c := &cobra.Command{
		Use:   "serve",
		Short: "The house alone, for real use",
		Long: `Serves the consoles and the devices' door on a house in --data, or with its books in
PostgreSQL. There is no city and no printed login: people are registered with koala person.

With --terminals shops' terminals are answered at that address too, as docs/terminal-protocol.md
says; koala terminal registers them. Cards of other banks are decided by their issuers' hosts:
each --peer is the way to one, and its two zone keys come in with koala key enter.`,
		Example: "  koala serve --listen 127.0.0.1:8080 --data /var/lib/koala\n  koala serve --terminals 0.0.0.0:7583 --peer ICBC=10.1.0.7:5001\n" +
			"  koala serve --db postgres://koala@db/koala --data /var/lib/koala",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.serve(cmd, links, listen)
		},
	}
	f.add(c)
	links.add(c, "")
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:8080", "address and port to listen on")
	return c
}

func (f houseFlags) serve(cmd *cobra.Command, links linkFlags, listen string) error {
	ctx := cmd.Context()
	p, err := links.dial()
	if err != nil {
		return err
	}
	defer p.close()
	cfg := f.config(cmd.ErrOrStderr())
	cfg.Peers = p.ways
	h, err := app.New(ctx, cfg)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := p.found(ctx, h); err != nil {
		return err
	}
	kit, err := h.NewKit(ctx, clock.System().Now, nil)
	if err != nil {
		return err
	}
	terminals, err := openCounter(links.terminals, h.Switch, cfg.Log)
	if err != nil {
		return err
	}
	run, stop := context.WithCancel(ctx)
	answered := terminals.run(run, cfg.Log)
	defer func() { stop(); answered() }()
	go follow(ctx, func() error { return h.Announce(ctx, kit.Hub) })
	go tick(ctx, h, time.Minute)
	return listenAndServe(ctx, listen, h.Handler(kit, app.Pages{}), func(url string) {
		fmt.Fprintf(cmd.OutOrStdout(), "koala is at %s, its books in %s\n", url, h.Store.Place())
		if terminals != nil {
			fmt.Fprintf(cmd.OutOrStdout(), "terminals dial %s\n", terminals.where())
		}
	})
}

// follow runs f again after a failure, until ctx ends.
func follow(ctx context.Context, f func() error) {
	for ctx.Err() == nil {
		if f() != nil {
			pause(ctx, time.Second)
		}
	}
}

// tick lets the house do what has become due, every so often.
func tick(ctx context.Context, h *app.House, every time.Duration) {
	for ctx.Err() == nil {
		if err := h.Tick(ctx); err != nil && ctx.Err() == nil {
			h.Config.Log.Error("tick", "error", err)
		}
		pause(ctx, every)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// listenAndServe serves until ctx ends and lets requests under way finish.
func listenAndServe(ctx context.Context, addr string, h http.Handler, ready func(url string)) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listening on %s: %w; choose another address with --listen", addr, err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	ready("http://" + l.Addr().String() + "/")
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}
