package home

import (
	"strings"

	"koala/transit/network"
	"koala/web"
)

// Map turns the rail network into what pages draw. It is made once and shared
// by all consoles.
func Map(n *network.Network) *web.Network {
	lines := make([]web.MapLine, 0, len(n.Lines))
	for i := range n.Lines {
		l := n.Lines[i]
		m := web.MapLine{ID: l.ID, Name: web.Text{ZH: l.ZH, EN: l.EN}, Short: badge(l.ID, l.ZH), Color: l.Color, Loop: l.Loop}
		for _, s := range l.Stops {
			m.Stops = append(m.Stops, s.Station.ID)
		}
		lines = append(lines, m)
	}
	stations := make([]web.MapStation, 0, len(n.Stations))
	for i := range n.Stations {
		s := n.Stations[i]
		m := web.MapStation{ID: s.ID, Name: web.Text{ZH: s.ZH, EN: s.EN}, Lat: s.Lat, Lon: s.Lon}
		for _, l := range s.Lines {
			m.Lines = append(m.Lines, l.ID)
		}
		stations = append(stations, m)
	}
	return web.NewNetwork(lines, stations)
}

// badge is a line's short name: its number, or in Chinese the place it serves.
func badge(id, zh string) web.Text {
	if strings.ContainsAny(id, "0123456789") {
		return web.Same(id)
	}
	return web.Text{ZH: strings.TrimSuffix(zh, "线"), EN: id}
}
