package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"koala/app"
	"koala/customer"
	"koala/internal/db"
)

func bandRegisterCommand() *cobra.Command {
	var f houseFlags
	var name, login string
	var asJSON bool
	c := &cobra.Command{
		Use:   "register",
		Short: "Make a band known to a house and print its token",
		Long: `Writes a band to its wearer's name in a house that is not running (or whose books are in
PostgreSQL) and orders that its factory keys be replaced. The token printed is the band's own
way into the house, for koala band phone run; the same command prints it again.`,
		Example: "  koala band register --name blue --login lin --data /var/lib/koala\n  koala band register --name blue --login lin --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !bandName.MatchString(name) || login == "" {
				return errUsage{errors.New("say which band and whose: --name and --login")}
			}
			token := ""
			err := f.with(cmd, func(ctx context.Context, h *app.House) (err error) {
				token, err = registerBand(ctx, h, name, login)
				return err
			})
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]string{"band": name, "wearer": login, "token": token})
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			return err
		},
	}
	f.add(c)
	c.Flags().StringVar(&name, "name", "", "name of the band")
	c.Flags().StringVar(&login, "login", "", "login of its wearer (koala person)")
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object instead of the token alone")
	return c
}

func registerBand(ctx context.Context, h *app.House, name, login string) (token string, err error) {
	err = h.Store.Write(ctx, func(tx *db.Tx) error {
		who, err := customer.ByLogin(tx, login)
		if err != nil {
			return err
		}
		return h.TSM.Register(tx, name, string(who.ID))
	})
	if err != nil {
		return "", err
	}
	return h.DeviceToken(ctx, kindBand, name)
}
