package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
)

func bandWearCommand() *cobra.Command {
	var f bandFlags
	c := &cobra.Command{
		Use:   "wear on|off",
		Short: "Put a band on or take it off, which locks it",
		Long: `A band that is not being served is put on a wrist or taken off. One passcode is good for one
wearing: taken off, a band with a passcode is locked until it is worn and unlocked again, and
at readers it shows only what its policy leaves open (koala band phone policy).`,
		Example: "  koala band wear off --name blue\n  koala band wear on --name blue --json",
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] != "on" && args[0] != "off" {
				return errUsage{fmt.Errorf("%q: on or off", args[0])}
			}
			path, err := f.path()
			if err != nil {
				return err
			}
			if err := houseRests(cmd.Context(), path); err != nil {
				return err
			}
			unlock, err := lockBand(path)
			if err != nil {
				return err
			}
			defer unlock()
			b, err := loadBand(path)
			if err != nil {
				return err
			}
			b.Wear(args[0] == "on")
			if err := saveBand(path, b); err != nil {
				return err
			}
			if f.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"band": b.ID, "worn": b.Worn(), "locked": b.Locked()})
			}
			state := map[bool]string{true: "locked", false: "not locked"}[b.Locked()]
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "band %s: %s, %s\n", b.ID, args[0], state)
			return err
		},
	}
	f.add(c)
	return c
}
