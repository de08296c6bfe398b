package network

import (
	"embed"
	"encoding/csv"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"koala/calendar"
	"koala/fare"
)

//go:embed data
var files embed.FS

// table reads one CSV file into rows by column name.
func table(in fs.FS, name string) ([]map[string]string, error) {
	f, err := in.Open("data/" + name)
	if err != nil {
		return nil, fmt.Errorf("network data: %w", err)
	}
	defer f.Close()
	all, err := csv.NewReader(f).ReadAll()
	if err != nil || len(all) < 2 {
		return nil, fmt.Errorf("network data %s: %w (%v)", name, ErrData, err)
	}
	rows := make([]map[string]string, 0, len(all)-1)
	for _, cells := range all[1:] {
		row := make(map[string]string, len(cells))
		for i, column := range all[0] {
			row[column] = cells[i]
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// load reads every table and checks that they agree.
func load(in fs.FS) (*Network, error) {
	n := &Network{
		byLine: map[string]*Line{}, byID: map[string]*Station{}, byCode: map[fare.Code]*Station{},
		names: map[string][]*Station{}, early: map[*Station]bool{}, trees: map[treeKey][]hop{},
	}
	for _, step := range []struct {
		file string
		row  func(map[string]string) error
	}{
		{"lines.csv", n.loadLine}, {"stations.csv", n.loadStation}, {"line_stations.csv", n.loadStop}, {"segments.csv", n.loadSegment},
		{"closed.csv", n.loadClosed}, {"operators.csv", n.loadOperator},
	} {
		rows, err := table(in, step.file)
		if err != nil {
			return nil, err
		}
		for i, row := range rows {
			if err := step.row(row); err != nil {
				return nil, fmt.Errorf("network data %s line %d: %w", step.file, i+2, err)
			}
		}
	}
	if err := n.finish(); err != nil {
		return nil, err
	}
	return n, n.checkTransfers(in)
}

func (n *Network) loadLine(row map[string]string) error {
	m, err := strconv.Atoi(row["length_m"])
	if err != nil || row["line_id"] == "" || n.byLine[row["line_id"]] != nil {
		return fmt.Errorf("line %q: %w", row["line_id"], ErrData)
	}
	l := &Line{ID: row["line_id"], ZH: row["name_cn"], EN: row["name_en"], Color: row["color"], Loop: row["loop"] == "1", Metres: m, Region: fare.Region(row["fare_region"])}
	n.Lines = append(n.Lines, l)
	n.byLine[l.ID] = l
	return nil
}

func (n *Network) loadStation(row map[string]string) error {
	lat, err1 := strconv.ParseFloat(row["lat"], 64)
	lon, err2 := strconv.ParseFloat(row["lon"], 64)
	if err1 != nil || err2 != nil || n.byID[row["station_id"]] != nil {
		return fmt.Errorf("station %q: %w", row["station_id"], ErrData)
	}
	s := &Station{ID: row["station_id"], ZH: row["name_cn"], EN: row["name_en"], Lat: lat, Lon: lon, District: row["district_code"], index: len(n.Stations)}
	if row["aliases_en"] != "" {
		s.Aliases = strings.Split(row["aliases_en"], "|")
	}
	n.Stations = append(n.Stations, s)
	n.byID[s.ID] = s
	n.edges = append(n.edges, nil)
	return nil
}

// loadStop also gives a code to platforms that the source has none for: 99,
// the line's place in lines.csv, and the stop's place on the line.
func (n *Network) loadStop(row map[string]string) error {
	l, s := n.byLine[row["line_id"]], n.byID[row["station_id"]]
	if l == nil || s == nil {
		return fmt.Errorf("%q on line %q: %w", row["station_id"], row["line_id"], ErrData)
	}
	stop := Stop{Station: s, Official: row["station_code"] != "", Lat: s.Lat, Lon: s.Lon}
	if lat, err := strconv.ParseFloat(row["lat"], 64); err == nil {
		stop.Lat = lat
	}
	if lon, err := strconv.ParseFloat(row["lon"], 64); err == nil {
		stop.Lon = lon
	}
	if stop.Official {
		c, err := strconv.ParseUint(row["station_code"], 10, 32)
		if err != nil || fare.Code(c) > fare.MaxCode {
			return fmt.Errorf("code %q: %w", row["station_code"], ErrData)
		}
		stop.Code = fare.Code(c)
	} else {
		for i, other := range n.Lines {
			if other == l {
				stop.Code = fare.Code(990_000 + (i+1)*100 + len(l.Stops) + 1)
			}
		}
	}
	if n.byCode[stop.Code] != nil {
		return fmt.Errorf("code %s twice: %w", stop.Code, ErrData)
	}
	n.byCode[stop.Code] = s
	l.Stops = append(l.Stops, stop)
	s.Lines, s.Codes = append(s.Lines, l), append(s.Codes, stop.Code)
	return nil
}

func (n *Network) loadSegment(row map[string]string) error {
	l, from, to := n.byLine[row["line_id"]], n.byID[row["from_id"]], n.byID[row["to_id"]]
	m, err := strconv.Atoi(row["distance_m"])
	if err != nil || m <= 0 || m > fare.MaxMetres || l == nil || from == nil || to == nil {
		return fmt.Errorf("%s to %s on line %q: %w", row["from_id"], row["to_id"], row["line_id"], ErrData)
	}
	s := Segment{Line: l, From: from, To: to, Metres: m, OneWay: row["direction"] == "forward"}
	if !s.OneWay && row["direction"] != "both" {
		return fmt.Errorf("direction %q: %w", row["direction"], ErrData)
	}
	n.Segments = append(n.Segments, s)
	n.edges[from.index] = append(n.edges[from.index], edge{to: to.index, metres: m, line: l})
	if !s.OneWay {
		n.edges[to.index] = append(n.edges[to.index], edge{to: from.index, metres: m, line: l})
	}
	return nil
}

func (n *Network) loadClosed(row map[string]string) error {
	c := Closed{ZH: row["name_cn"], EN: row["name_en"], Line: n.byLine[row["line_id"]], From: n.byID[row["between_from"]], To: n.byID[row["between_to"]], Note: row["note"]}
	if c.Line == nil || c.From == nil || c.To == nil {
		return fmt.Errorf("closed station %q: %w", c.ZH, ErrData)
	}
	n.Closed = append(n.Closed, c)
	return nil
}

func (n *Network) loadOperator(row map[string]string) error {
	o := Operator{Line: n.byLine[row["line_id"]], ID: row["operator"], EN: row["name_en"], ZH: row["name_cn"], Source: row["source"]}
	var err error
	if o.From, err = calendar.Parse(row["from"]); err == nil && row["to"] != "" {
		o.To, err = calendar.Parse(row["to"])
	}
	if err != nil || o.Line == nil || o.ID == "" {
		return fmt.Errorf("operator %q of line %q: %w (%v)", o.ID, row["line_id"], ErrData, err)
	}
	n.Operators = append(n.Operators, o)
	return nil
}

// finish indexes names, resolves the early-bird stations of every tariff and
// checks that no station is left without a line.
func (n *Network) finish() error {
	for _, s := range n.Stations {
		if len(s.Lines) == 0 {
			return fmt.Errorf("station %s is on no line: %w", s.ID, ErrData)
		}
		n.index(s)
	}
	for _, t := range fare.Tariffs() {
		for _, name := range t.EarlyBird.Stations {
			s, err := n.Find(name)
			if err != nil {
				return fmt.Errorf("early-bird station: %w", err)
			}
			n.early[s] = true
		}
	}
	return nil
}

// checkTransfers proves that every two lines of a station have an in-station
// interchange, which is what lets Route change lines wherever stations meet.
// Out-of-station interchanges join different stations and are no part of a
// fare: the rider leaves and enters again.
func (n *Network) checkTransfers(in fs.FS) error {
	rows, err := table(in, "transfers.csv")
	if err != nil {
		return err
	}
	have := map[string]bool{}
	for _, r := range rows {
		if r["kind"] == "in-station" {
			have[r["from_id"]+" "+r["from_line"]+" "+r["to_line"]] = true
			have[r["from_id"]+" "+r["to_line"]+" "+r["from_line"]] = true
		}
	}
	for _, s := range n.Stations {
		for i, a := range s.Lines {
			for _, b := range s.Lines[:i] {
				if !have[s.ID+" "+a.ID+" "+b.ID] {
					return fmt.Errorf("no interchange between lines %s and %s at %s: %w", a.ID, b.ID, s.ID, ErrData)
				}
			}
		}
	}
	return nil
}
