// Package koala is the map of the house: the standards are pure libraries
// under spec; card and band are the wearer's end of the contact and terminal
// is the accepting end; ledger keeps the books on internal/db; the domains
// (issuing, tsm, transit, merchant, switching, settlement, ...) are named by
// the field's words; web and hostlink are thin edges; app wires one house;
// city drives it.
//
// Read README.md for the tour, floors.txt for who may import whom, docs for
// the glossary, the cycles that cannot be taken back, and the decisions.
package koala
