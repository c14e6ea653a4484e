"""What a story stands on: a guest, sites, and claims that are counted."""

from guest import Guest, until
from packages import package
from testbed_site import Site


class Stage:
    def __init__(self, root, folder, long=False):
        """`long`: every kind and every step, also where that takes minutes."""
        self.long = long
        self.folder, self.checks, self.facts, self.sites, self.closes = folder, 0, [], [], []
        self.guest = Guest(root, folder)

    def claim(self, what, holds, shown=""):
        """One thing that must be so."""
        self.checks += 1
        assert holds, f"{what}{': ' if shown != '' else ''}{shown}"

    def fact(self, text):
        """For the line that tells of the story."""
        self.facts.append(text)

    def site(self, *flags, more=""):
        one = Site(self.folder / f"site-{len(self.sites)}", *flags, more=more)
        self.sites.append(one)
        return one

    def gateway(self, *flags, more="", disk=False, drop_in=""):
        """A guest with the gateway installed, and readings of its site at the cloud."""
        site = self.site(*flags, more=more)
        if disk:
            self.guest.use_disk()
        self.guest.boot()
        # The settings are there before the package, as an installer's image has them.
        self.guest.install(package("1"))
        site.configure(self.guest)
        if drop_in:
            self.guest.drop_in(drop_in)
        self.guest.run("systemctl restart enos-edge")
        self.flows(site)
        return site

    def flows(self, site, within=15):
        """Fresh readings reach the cloud."""
        before = site.delivered()
        until("readings reach the cloud", lambda: site.delivered() > before + 100, within)

    def nothing_lost(self, site, beyond_bound=False):
        """The devices fall silent, the backlog drains. After kills, what was younger than the bound may be missing."""
        report, beyond = site.verdict()
        lost = beyond if beyond_bound else report["lost"]
        self.claim("nothing is lost", lost == 0, f"{report['lost']} lost, {beyond} beyond the bound: {report['lost_runs'][:3]}")
        self.claim("no value came under a wrong time", report["repeated"] == 0, report["repeated"])
        self.claim("something was delivered", report["delivered"] > 0)
        within = report["lost"] - beyond
        younger = f", {within} younger than the bound at a kill" if within else ""
        self.fact(f"{report['delivered']} readings, {lost} lost{younger}, {report['duplicated']} twice")

    def last_words(self):
        if self.guest.leader:
            print("  | " + self.guest.journal("-n 25 -o cat").replace("\n", "\n  | "))
            print("  | " + self.guest.run("enos-edge status", check=False).replace("\n", "\n  | "))
            print("  | " + self.guest.run("systemctl status enos-edge enos-edge.socket --no-pager -n 3", check=False).replace("\n", "\n  | "))

    def close(self):
        for close in self.closes:
            close()
        for site in self.sites:
            site.close()
        self.guest.discard()
