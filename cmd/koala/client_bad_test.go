package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	gp "koala/spec/globalplatform"
)

var everyPersonality = []string{"contactless", "desfire", "beijing", "contact-t0", "contact-t1"}

// Whatever frame comes, under every personality and with every application
// selected: one of the answers that the standard has for it, nothing changed,
// and the card goes on.
func TestFramesOfStrangers(t *testing.T) {
	long := strings.Repeat("A5", 300)
	table := []struct{ apdu, want string }{
		{"00A4", "6700"}, {"00A404", "6700"}, {"00A4040008A0000006320101", "6700"}, {"00A4040008A000000632010105000000", "6700"}, {"00A40400", "9000 6C1D"},
		{"00A40400000000", "6700 9000 6A86"}, {"00A4040000FFFF", "9000 6700"}, {"00A404000000", "6700"}, {"00A4040000010C" + long, "6700"}, {"00A404000011" + long[:34], "6700"},
		{"00A4040011" + long[:34], "6A80 6A82 6A86 6700"}, {"00A40400FF" + long[:510], "6A80 6A82 6A86 6700"}, {"00A4040004A0000006", "9000 61xx"}, {"00A40400000012C" + "0", "6700"},
		{"00E2800000012C" + long, "6700 6D00 6E00 6982 6985"}, {"80E2800000012C" + long + "0000", "6700 6D00 6E00 6982 6985"},
		{"10A4040008A000000632010105", "6884 6E00"}, {"10B0950000", "6884 6E00"}, {"1CE2800004800001FF", "6884 6E00"}, {"20B0950000", "6884 6881 6E00"}, {"B0E2800000", "6884 6881 6E00"},
		{"01B0950000", "6881"}, {"02A4040008A000000632010105", "6881"}, {"03CA006600", "6881"}, {"40B0950000", "6881 6E00"}, {"C0B0950000", "6881 6E00"}, {"84E2800000", "6700 6982 6985 6D00 6E00 6F00"},
		{"FF00000000", "6E00 6D00"}, {"FFFFFFFFFF", "6E00 6D00"}, {"FFCA050000", "6E00 6A81 6D00"}, {"FFB0000010", "6E00 6D00 6A81"}, {"FF82000006FFFFFFFFFFFF", "6E00 6D00"}, {"FF00480000", "6E00 6D00"},
		{"00C0000000", "6985 6D00 6E00"}, {"00C00000FF", "6985 6D00 6E00"}, {"0070000500", "6A86"}, {"0070800000", "6A86 6A81 6985"}, {"0070800300", "6200"}, {"00707F0001", "6A86"},
		{"00FE000000", "6D00 6E00"}, {"80FE000000", "6D00 6E00 6985"}, {"8000000000", "6D00 6E00"}, {"0000000000", "6D00 6E00"}, {"9000000000", "6E00 911C 917E"}, {"90FF00000000", "6700 6E00 917E 911C"},
		{"90AF000000", "6E00 911C 91CA 917E"}, {"905A0000021122", "6E00 917E"}, {"905A0000031122", "6700"}, {"905A000003ABCDEF00", "6E00 91A0"}, {"90AA0000019900", "6E00 91A0 9140 91AE"},
	}
	for _, personality := range everyPersonality {
		g := plugIn(t, personality, gp.AES)
		image := g.band.Element.Image()
		for _, name := range []string{"", "A000000151000000", "A000000632010105", "A000000333010101", "D2760000850100", "F06B6F616C610410", "315041592E5359532E4444463031", "325041592E5359532E4444463031"} {
			for _, tt := range table {
				g.ask("02")
				if name != "" {
					g.do(fmt.Sprintf("00A40400%02X%s00", len(name)/2, name))
				}
				got := g.ask(tt.apdu)
				short := got[max(0, len(got)-4):]
				if list := strings.Fields(tt.want); !slices.Contains(list, short) && !(strings.HasPrefix(short, "61") && slices.Contains(list, "61xx")) {
					t.Errorf("%s, %s: %s: %s, want %s", personality, name, tt.apdu[:min(len(tt.apdu), 40)], got, tt.want)
				}
			}
		}
		if !bytes.Equal(g.band.Element.Image(), image) {
			t.Errorf("%s: the memory has changed", personality)
		}
		g.do("00A4040008A00000063201010500")
		if got := upper(g.ok("805C000204")); got != fmt.Sprintf("%08X", testFen) {
			t.Errorf("%s: the purse holds %s", personality, got)
		}
	}
}

// A frame and its answer in a row; the purse is selected before.
type exchange struct{ apdu, want string }

func (g *plug) talk(list []exchange) {
	g.t.Helper()
	for n, x := range list {
		if got := g.ask(x.apdu); got != x.want && !(strings.HasSuffix(x.want, "..") && strings.HasPrefix(got, strings.TrimSuffix(x.want, ".."))) {
			g.t.Errorf("%d, %s: %s, want %s", n, x.apdu, got, x.want)
		}
	}
}

// T=0 has no data both ways, no extended length, and asks for the right Le. What
// waits is lost when something else comes.
func TestFramesOfT0(t *testing.T) {
	g := plugIn(t, "contact-t0", gp.AES)
	file := strings.ToUpper(testFile15)
	g.talk([]exchange{
		{"00A4040008A000000632010105", "6133"}, {"00C0000034", "6C33"}, {"00C0000001", "6F6132"}, {"00C0000000", "6C32"}, {"00C0000032", ".."}, {"00C0000001", "6985"},
		{"00A4040008A00000063201010500", "6133"}, {"805C000204", "000010009000"}, {"00C0000033", "6985"}, // lost
		{"805C000200", "6C04"}, {"805C000205", "6C04"}, {"805C0002", "6C04"}, {"805C000204", "000010009000"},
		{"00B0950000", "6C1E"}, {"00B095001E", file + "9000"}, {"00B0950001", file[:2] + "9000"}, {"00B09500FF", "6C1E"}, {"00B0951E01", "6B00"}, {"00B09500", "6700"},
		{"00B09500000000", "6700"}, {"00B0950000001E", "6700"}, {"00A40400000008A000000632010105", "6700"}, {"00A40400000008A0000006320101050000", "6700"},
		{"805000020B0100000001000000000000", "6110"}, {"805000020B010000000100000000000010", "6110"}, {"80C0000010", "00001000.."}, {"80C0000010", "6D00"},
		{"0070000000", "6C01"}, {"0070000001", "019000"}, {"0070000001", "029000"}, // the wrong length opened none
		{"0170800100", "9000"}, {"0070800200", "9000"}, {"0070800200", "6200"},
	})
}

// The other personalities carry data both ways, in either coding, four channels
// at once, each with its own application.
func TestFramesOfBlocks(t *testing.T) {
	file := strings.ToUpper(testFile15)
	for _, personality := range []string{"contact-t1", "contactless", "desfire", "beijing"} {
		g := plugIn(t, personality, gp.AES)
		g.talk([]exchange{
			{"00A4040008A000000632010105", "6F.."}, {"00A4040008A00000063201010500", "6F.."}, {"00A40400000008A000000632010105", "6F.."}, {"00A40400000008A0000006320101050000", "6F.."},
			{"00B0950000", file + "9000"}, {"00B09500000000", file + "9000"}, {"00B0950000001E", file + "9000"}, {"00B095001E", file + "9000"}, {"00B0950001", file[:2] + "9000"}, {"00B095001F", "6C1E"},
			{"00B0950000FFFF", "6C1E"}, {"00B0951E01", "6B00"}, {"00C0000000", "6D00"},
			{"0070000001", "019000"}, {"0070000001", "029000"}, {"0070000000", "039000"}, {"0070000001", "6881"},
			{"01A4040008A00000033301010100", "6F.."}, {"01B0950000", "6D00"}, {"02A404000E325041592E5359532E444446303100", "6F.."}, {"00B0950001", file[:2] + "9000"},
			{"815C000204", "6D00"}, {"805C000204", "000010009000"}, {"835C000204", "6D00"}, {"0170800100", "9000"}, {"01B0950000", "6881"}, {"02708003", "9000"}, {"00708002", "9000"}, {"00708001", "6200"},
		})
	}
}
