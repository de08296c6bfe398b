package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"koala/app"
	"koala/internal/db"
)

// houseFlags say which house a command works on.
type houseFlags struct {
	data, db string
}

func (f *houseFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.data, "data", "koala-data", "folder of the data file, the key file and the devices")
	c.Flags().StringVar(&f.db, "db", "", "postgres://user@host/database instead of the embedded store")
}

func (f houseFlags) config(errs io.Writer) app.Config {
	return app.Config{Data: f.data, DB: f.db, Log: slog.New(slog.NewTextHandler(errs, &slog.HandlerOptions{Level: slog.LevelWarn}))}
}

// open opens a house that exists: a command that only looks must not make one.
func (f houseFlags) open(cmd *cobra.Command) (*app.House, error) {
	if err := f.exists(); err != nil {
		return nil, err
	}
	return app.New(cmd.Context(), f.config(cmd.ErrOrStderr()))
}

func (f houseFlags) exists() error {
	if f.db != "" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(f.data, "koala.db")); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("there is no house in %s; start one with koala serve or koala demo, or name its folder with --data", f.data)
	}
	return nil
}

// with runs do on an existing house and closes it.
func (f houseFlags) with(cmd *cobra.Command, do func(context.Context, *app.House) error) error {
	h, err := f.open(cmd)
	if err != nil {
		return err
	}
	err = do(cmd.Context(), h)
	if closed := h.Close(); err == nil {
		err = closed
	}
	return err
}

func verifyCommand() *cobra.Command {
	var f houseFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "verify",
		Short: "Prove the books: hashes, zero sums, views, captures settled once",
		Long: `Replays the journal from its first batch, checks every hash of the chain and every
entry's zero sum, compares the result with the balances in memory and the views, and
compares the books with the cards, orders, journeys and payouts they stand for.`,
		Example: "  koala verify --data koala-data\n  koala verify --db postgres://koala@localhost/koala --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.with(cmd, func(ctx context.Context, h *app.House) error {
				report, err := h.Verify(ctx)
				if err != nil {
					return err
				}
				return printProof(cmd.OutOrStdout(), report, asJSON)
			})
		},
	}
	f.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object instead of text")
	return c
}

func printProof(w io.Writer, r app.Proof, asJSON bool) error {
	if asJSON {
		if err := json.NewEncoder(w).Encode(r); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(w, "%d book, %d batches, %d entries\n", r.Books, r.Batches, r.Entries)
		for _, p := range r.Problems {
			fmt.Fprintf(w, "WRONG  %s\n", p)
		}
		if r.OK {
			fmt.Fprintln(w, "Everything holds: hashes, zero sums, views, cards, orders, captures.")
		}
	}
	if !r.OK {
		return errFoundWrong
	}
	return nil
}

func backupCommand() *cobra.Command {
	var f houseFlags
	c := &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the embedded store to one file while it may be in use",
		Long: `Writes a consistent copy of the data file to FILE, which must not exist yet. Keep the
key file (koala.key) somewhere else: without it the copy's keys cannot be opened.`,
		Example: "  koala backup /mnt/backup/2015-09-16.db",
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.db != "" {
				return errUsage{errors.New("a PostgreSQL store is backed up with pg_dump")}
			}
			if err := f.exists(); err != nil {
				return err
			}
			if _, err := os.Stat(args[0]); err == nil {
				return fmt.Errorf("%s exists already; name a file that does not", args[0])
			}
			if err := db.Copy(cmd.Context(), filepath.Join(f.data, "koala.db"), args[0]); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s written. The key file is not in it.\n", args[0])
			return nil
		},
	}
	f.add(c)
	return c
}

func restoreCommand() *cobra.Command {
	var f houseFlags
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Start a data folder from a backup",
		Long: `Copies a backup into an empty data folder, opens it, and proves its books. The key file
of the backed-up house must already lie in the folder.`,
		Example: "  koala restore /mnt/backup/2015-09-16.db --data koala-data",
		Args:    exactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.restore(cmd, args[0]) },
	}
	f.add(c)
	return c
}

func (f houseFlags) restore(cmd *cobra.Command, backup string) error {
	if f.db != "" {
		return errUsage{errors.New("a PostgreSQL store is restored with pg_restore")}
	}
	target := filepath.Join(f.data, "koala.db")
	if _, err := os.Stat(target); err == nil {
		return fmt.Errorf("%s exists; restore into another folder with --data", target)
	}
	if _, err := os.Stat(filepath.Join(f.data, "koala.key")); err != nil {
		return fmt.Errorf("the key file %s is missing; copy it there first: without it the keys in the backup cannot be opened", filepath.Join(f.data, "koala.key"))
	}
	if err := copyFile(backup, target); err != nil {
		return err
	}
	err := f.with(cmd, func(ctx context.Context, h *app.House) error {
		report, err := h.Verify(ctx)
		if err != nil {
			return err
		}
		return printProof(cmd.OutOrStdout(), report, false)
	})
	if err != nil && !errors.Is(err, errFoundWrong) {
		os.Remove(target)
		return fmt.Errorf("%s is not a usable backup, nothing was restored: %w", backup, err)
	}
	return err
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err = io.Copy(out, in); err == nil {
		err = out.Sync()
	}
	if closed := out.Close(); err == nil {
		err = closed
	}
	if err != nil {
		os.Remove(to)
	}
	return err
}

func rebuildCommand() *cobra.Command {
	rebuild := &cobra.Command{
		Use:   "rebuild",
		Short: "Make derived data again from the journal",
		Long: `Statements and search are made from the journal and can be made again from it at any time, for
instance after their file was lost. The books themselves are not touched.`,
		Example: "  koala rebuild views --data koala-data",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var f houseFlags
	views := &cobra.Command{
		Use:     "views",
		Short:   "Make statements and search again from the journal",
		Example: "  koala rebuild views",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.with(cmd, func(ctx context.Context, h *app.House) error {
				if err := h.Book.Rebuild(ctx); err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), "The views are built again.")
				return nil
			})
		},
	}
	f.add(views)
	rebuild.AddCommand(views)
	return rebuild
}

func migrateCommand() *cobra.Command {
	var f houseFlags
	c := &cobra.Command{
		Use:     "migrate",
		Short:   "Bring the store's tables to this version",
		Long:    "Every command that opens a house does this; alone it is for a step before a new version starts.",
		Example: "  koala migrate --db postgres://koala@localhost/koala",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.with(cmd, func(_ context.Context, h *app.House) error {
				fmt.Fprintf(cmd.OutOrStdout(), "%s is up to date.\n", h.Store.Place())
				return nil
			})
		},
	}
	f.add(c)
	return c
}
