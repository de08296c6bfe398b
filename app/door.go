package app

import (
	"context"
	"net/http"

	"koala/web"
	"koala/web/device"
)

// A Console is one audience's pages with its entry in the top bar.
type Console struct {
	Door    web.Door
	Paths   []string // patterns of the mux, like "/ops/"
	Handler http.Handler
}

// Kit makes the web kit of this house. now is wall time for sessions, which
// must not expire by a city's clock.
func (h *House) Kit(ctx context.Context, cfg web.Config) (*web.Kit, error) {
	cfg.Store, cfg.Accounts, cfg.Log = h.Store, accounts{h.Desk, h.Store}, h.Config.Log
	return web.New(ctx, cfg)
}

// Handler is the door of the house: devices at /device/, the consoles at
// theirs.
func (h *House) Handler(kit *web.Kit, consoles ...Console) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/device/", h.DeviceHandler())
	var doors []web.Door
	for _, c := range consoles {
		for _, p := range c.Paths {
			mux.Handle(p, c.Handler)
		}
		if c.Door.Href != "" {
			doors = append(doors, c.Door)
		}
	}
	kit.SetDoors(doors...)
	return kit.House(mux, "/device/")
}

// DeviceHandler is the machines' door alone, for a city without pages.
func (h *House) DeviceHandler() http.Handler {
	return device.New(device.Deps{TSM: h.TSM, Terminals: terminals{h}, Devices: h})
}
